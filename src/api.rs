//! The registry's API: [`Client`] has one method per operation and returns what the cloud
//! answered in the cloud's own words ([`wire`]); what it means is left to `source`. Signing,
//! retries, rate limit and paging are the [`rpc`] client's.

pub mod settings;
pub mod wire;

use std::fmt;

use alibaba_cloud::rpc::{self, Call, Product};
use alibaba_cloud::signing::Param;

pub use alibaba_cloud::rpc::{Account, Budget, Error, List, Options, Shared};

use self::wire::{Response, Rule, RulePage, Task, TaskPage, TaskResultPage, TaskResults};

/// How the exporter names itself to the cloud.
pub const USER_AGENT: &str = concat!("aliyun-acr-exporter/", env!("CARGO_PKG_VERSION"));

const TASK_RESULTS: &str = "GetArtifactSubscriptionTaskResult";
const TASK: &str = "GetArtifactSubscriptionTask";
const TASKS: &str = "ListArtifactSubscriptionTask";
const RULES: &str = "ListArtifactSubscriptionRule";

static REGISTRY: Product = Product {
    name: "cr",
    version: "2018-12-01",
    actions: &[TASK_RESULTS, TASK, TASKS, RULES],
    page_params: ["PageNo", "PageSize"],
};

/// The API as one account sees it.
pub struct Client(rpc::Client);

/// An instance, and where its API answers.
#[derive(Clone, Copy, Debug)]
pub struct Instance<'a> {
    /// `cri-…`
    pub id: &'a str,
    /// Its region, "" where that is not known.
    pub region: &'a str,
    /// Scheme and authority, such as `https://cr.cn-hangzhou.aliyuncs.com`.
    pub endpoint: &'a str,
}

/// As RAM policies name it. The account is not known.
impl fmt::Display for Instance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = if self.region.is_empty() {
            "*"
        } else {
            self.region
        };
        write!(f, "acs:cr:{region}:*:instance/{}", self.id)
    }
}

impl Client {
    /// The client of `account`.
    pub fn new(account: Account, shared: Shared, options: Options) -> Self {
        Self(rpc::Client::new(&REGISTRY, account, shared, options))
    }

    /// The artifacts of one task, over all pages.
    pub async fn task_results(
        &self,
        instance: Instance<'_>,
        task_id: &str,
        budget: &mut Budget,
    ) -> Result<TaskResults, Error> {
        let params = of_task(instance, task_id);
        let call = call(TASK_RESULTS, &instance, &params);
        let list = self
            .0
            .list::<Response<TaskResultPage>>(&call, budget, |_| true);
        Ok(list.await?.rows)
    }

    /// The rules of an instance, over all pages.
    pub async fn rules(
        &self,
        instance: Instance<'_>,
        budget: &mut Budget,
    ) -> Result<List<Vec<Rule>>, Error> {
        let params = of_instance(instance);
        let call = call(RULES, &instance, &params);
        let list = self.0.list::<Response<RulePage>>(&call, budget, |_| true);
        list.await
    }

    /// The tasks of an instance in the cloud's order, over all pages or until
    /// `go_on` has seen enough.
    pub async fn tasks(
        &self,
        instance: Instance<'_>,
        budget: &mut Budget,
        mut go_on: impl FnMut(&[Task]) -> bool,
    ) -> Result<List<Vec<Task>>, Error> {
        let params = of_instance(instance);
        let call = call(TASKS, &instance, &params);
        let go_on = |page: &Vec<Task>| go_on(page);
        let list = self.0.list::<Response<TaskPage>>(&call, budget, go_on);
        list.await
    }

    /// Whether the artifacts of a task can be read: one page of one row.
    pub async fn probe(
        &self,
        instance: Instance<'_>,
        task_id: &str,
        budget: &mut Budget,
    ) -> Result<(), Error> {
        let params = of_task(instance, task_id);
        let call = call(TASK_RESULTS, &instance, &params);
        let page = self.0.page::<Response<TaskResultPage>>(&call, 1, 1, budget);
        page.await.map(|_| ())
    }

    /// Whether the rules of an instance can be read: one page of one.
    pub async fn probe_rules(
        &self,
        instance: Instance<'_>,
        budget: &mut Budget,
    ) -> Result<(), Error> {
        let params = of_instance(instance);
        let call = call(RULES, &instance, &params);
        let page = self.0.page::<Response<RulePage>>(&call, 1, 1, budget);
        page.await.map(|_| ())
    }

    /// One task itself.
    pub async fn task(
        &self,
        instance: Instance<'_>,
        task_id: &str,
        budget: &mut Budget,
    ) -> Result<Task, Error> {
        let params = of_task(instance, task_id);
        let call = call(TASK, &instance, &params);
        let Response::<Task>(_, task) = self.0.call(&call, budget).await?;
        // An unknown id may be answered with a success about no task.
        if task.task_id != task_id {
            let problem = "the API knows no task with this id";
            return Err(Error::not_found(TASK, problem));
        }
        Ok(task)
    }

    /// See [`rpc::Client::signer`].
    pub async fn signer(&self) -> Option<String> {
        self.0.signer().await
    }
}

fn call<'a>(action: &'static str, instance: &'a Instance<'a>, params: &'a [Param<'a>]) -> Call<'a> {
    Call {
        action,
        endpoint: instance.endpoint,
        params,
        resource: instance,
    }
}

fn of_instance(instance: Instance<'_>) -> [Param<'_>; 1] {
    [("InstanceId", instance.id.into())]
}

fn of_task<'a>(instance: Instance<'a>, task_id: &'a str) -> [Param<'a>; 2] {
    [
        ("InstanceId", instance.id.into()),
        ("TaskId", task_id.into()),
    ]
}
