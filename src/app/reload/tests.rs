//! When a changed file is noticed, in paused time, with real files.

use std::os::unix::fs::symlink;

use tokio::task::JoinHandle;

use super::*;
use crate::metrics::own::Build;

struct Bench {
    folder: tempfile::TempDir,
    requests: mpsc::Sender<ReloadRequest>,
    changes: mpsc::Receiver<Change<CloudSource>>,
    own: Arc<Own>,
    stop: CancellationToken,
    run: JoinHandle<()>,
}

fn text(task: &str) -> String {
    format!("instances: [{{ id: cri-a, region: cn-hangzhou, tasks: [{task}] }}]\n")
}

/// A folder as Kubernetes mounts a `ConfigMap`: the file is a link into a folder that
/// is a link itself, which is replaced.
fn mount(folder: &Path, version: &str, text: &str) {
    let content = folder.join(version);
    std::fs::create_dir(&content).unwrap();
    std::fs::write(content.join("config.yaml"), text).unwrap();
    symlink(version, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount(folder.path(), "..1", &text("crast-1"));
        let path = folder.path().join("config.yaml");
        symlink("..data/config.yaml", &path).unwrap();
        let (config, origin) = Origin::load(&path).unwrap();
        let web = folder.path().join("web.yaml");
        std::fs::write(&web, "").unwrap();
        let web = Arc::new(WebSource::open(&web).unwrap());
        let own = Arc::new(Own::new(Build::CURRENT));
        let clock = Clock::fixed(1_000_000);
        let (changes, asked) = mpsc::channel(1);
        let (requests, reloads) = mpsc::channel(1);
        let reloader = Reloader {
            origin: Some(origin),
            accounts: Accounts::new(&config, Shard::WHOLE, &own, &clock).unwrap(),
            store: Arc::new(Store::new(limits(&config), [])),
            config,
            shard: Shard::WHOLE,
            own: Arc::clone(&own),
            clock,
            changes,
            web,
            show: watch::channel("".into()).0,
        };
        let stop = CancellationToken::new();
        Self {
            run: tokio::spawn(reloader.run(reloads, stop.clone())),
            folder,
            requests,
            changes: asked,
            own,
            stop,
        }
    }

    /// The ids of the next change that reaches the scheduler, within `seconds`.
    async fn changed(&mut self, seconds: u64) -> Option<Vec<String>> {
        let next = timeout(Duration::from_secs(seconds), self.changes.recv()).await;
        let change = next.ok()??;
        change.done.send(()).unwrap();
        let ids = change.watches.iter();
        Some(ids.map(|watch| watch.target.task_id.to_string()).collect())
    }

    fn successful(&self) -> f64 {
        let name = "aliyun_acr_exporter_config_last_reload_successful";
        let families = self.own.gather();
        let family = families.iter().find(|family| family.name() == name);
        family.unwrap().get_metric()[0].get_gauge().get_value()
    }

    async fn end(self) {
        self.stop.cancel();
        self.run.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_swapped_is_noticed_by_its_contents() {
    let mut bench = Bench::new();
    assert_eq!(bench.changed(100).await, None);
    // The same again, in another file.
    mount(bench.folder.path(), "..2", &text("crast-1"));
    assert_eq!(bench.changed(100).await, None);
    mount(bench.folder.path(), "..3", &text("crast-2"));
    assert_eq!(bench.changed(31).await.unwrap(), ["crast-2"]);
    assert_eq!(bench.changed(100).await, None);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_file_is_tried_once_and_again_when_it_has_changed() {
    let mut bench = Bench::new();
    mount(bench.folder.path(), "..2", "instances: 5\n");
    assert_eq!(bench.changed(31).await, None);
    assert!(bench.successful() < 0.5);
    // Away for a while: nothing happens, and the daemon goes on.
    let data = bench.folder.path().join("..data");
    std::fs::remove_file(&data).unwrap();
    assert_eq!(bench.changed(100).await, None);
    mount(bench.folder.path(), "..3", &text("crast-1"));
    assert_eq!(
        bench.changed(31).await.unwrap(),
        ["crast-1"],
        "the one in force, but told"
    );
    tokio::task::yield_now().await;
    assert!(bench.successful() > 0.5);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_web_configuration_keeps_no_changed_file_out() {
    let mut bench = Bench::new();
    std::fs::write(bench.folder.path().join("web.yaml"), "foo: 1\n").unwrap();
    mount(bench.folder.path(), "..2", &text("crast-2"));
    assert_eq!(bench.changed(31).await.unwrap(), ["crast-2"]);
    // Who asks is told of both.
    let (request, told) = oneshot::channel();
    bench.requests.send(request).await.unwrap();
    assert!(
        told.await
            .unwrap()
            .unwrap_err()
            .contains("web.yaml:1:1: foo")
    );
    // The failure is not covered up by loading again what is in force.
    assert_eq!(bench.changed(100).await, None);
    assert!(bench.successful() < 0.5);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn requests_are_served_one_after_the_other() {
    let mut bench = Bench::new();
    let (first, told_first) = oneshot::channel();
    bench.requests.send(first).await.unwrap();
    let (second, mut told_second) = oneshot::channel();
    bench.requests.send(second).await.unwrap();
    let change = bench.changes.recv().await.unwrap();
    assert!(
        timeout(Duration::from_secs(1), &mut told_second)
            .await
            .is_err()
    );
    assert!(
        bench.changes.try_recv().is_err(),
        "the first is not in force yet"
    );
    change.done.send(()).unwrap();
    assert!(told_first.await.unwrap().is_ok());
    assert!(bench.changed(1).await.is_some());
    assert!(told_second.await.unwrap().is_ok());
    bench.end().await;
}
