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
    web: Arc<WebSource>,
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
            accounts: Accounts::new(&config, Shard::WHOLE, &own, &clock).unwrap(),
            store: Arc::new(Store::new(limits(&config), [])),
            config,
            shard: Shard::WHOLE,
            own: Arc::clone(&own),
            clock,
            changes,
            web: Arc::clone(&web),
            show: watch::channel("".into()).0,
        };
        let stop = CancellationToken::new();
        Self {
            run: tokio::spawn(reloader.run(Some(origin), reloads, stop.clone())),
            folder,
            requests,
            changes: asked,
            own,
            web,
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

    /// Asks for a reload that has to fail, and returns why.
    async fn failed_reload(&mut self) -> String {
        let (request, answer) = oneshot::channel();
        self.requests.send(request).await.unwrap();
        let error = answer.await.unwrap().unwrap_err();
        assert!(self.successful() < 0.5);
        error
    }

    /// The same, once 100 s more have changed nothing.
    async fn still_failed(&mut self) {
        assert_eq!(self.changed(100).await, None);
        assert!(self.successful() < 0.5);
    }

    /// That the next look reloads the configuration with this task, after which the
    /// last reload counts as successful or not.
    async fn next_look(&mut self, task: &str, successful: bool) {
        assert_eq!(self.changed(31).await.unwrap(), [task]);
        assert_eq!(self.changed(1).await, None);
        assert_eq!(self.successful() > 0.5, successful);
    }

    fn write_web(&self, text: &str) {
        std::fs::write(self.folder.path().join("web.yaml"), text).unwrap();
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
    let error = bench.failed_reload().await;
    assert!(error.contains("web.yaml:1:1: foo"), "{error}");
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

#[tokio::test(start_paused = true)]
async fn a_reload_while_the_file_cannot_be_read_is_repeated_once_it_can() {
    let mut bench = Bench::new();
    let path = bench.folder.path().join("config.yaml");
    let kept = bench.folder.path().join("kept.yaml");
    std::fs::rename(&path, &kept).unwrap();
    let error = bench.failed_reload().await;
    assert!(error.contains("config.yaml"), "{error}");
    bench.still_failed().await;
    // The contents are the same as before.
    std::fs::rename(&kept, &path).unwrap();
    bench.next_look("crast-1", true).await;
    assert_eq!(bench.changed(100).await, None, "once");

    // A folder cannot be read as a file.
    std::fs::rename(&path, &kept).unwrap();
    std::fs::create_dir(&path).unwrap();
    bench.failed_reload().await;
    bench.still_failed().await;
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&kept, &path).unwrap();
    bench.next_look("crast-1", true).await;
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_comes_back_broken_stays_failed_until_it_is_mended() {
    let mut bench = Bench::new();
    let data = bench.folder.path().join("..data");
    std::fs::remove_file(&data).unwrap();
    bench.failed_reload().await;
    mount(bench.folder.path(), "..2", "instances: 5\n");
    bench.still_failed().await;
    mount(bench.folder.path(), "..3", &text("crast-1"));
    bench.next_look("crast-1", true).await;
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_failed_for_the_web_configuration_is_repeated_once_that_is_mended() {
    let mut bench = Bench::new();
    for broken in [Some("foo: 1\n"), None] {
        match broken {
            Some(text) => bench.write_web(text),
            None => std::fs::remove_file(bench.folder.path().join("web.yaml")).unwrap(),
        }
        let error = bench.failed_reload().await;
        assert!(error.contains("web.yaml"), "{error}");
        // The main file is good and unchanged, which does not mend the other one.
        bench.still_failed().await;
        bench.write_web("");
        bench.next_look("crast-1", true).await;
    }
    // It may be a request that notices it first.
    bench.write_web("foo: 1\n");
    bench.failed_reload().await;
    bench.write_web("");
    assert!(bench.web.is_up_to_date().await);
    bench.next_look("crast-1", true).await;
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_does_not_hide_a_web_configuration_that_is_still_broken() {
    let mut bench = Bench::new();
    bench.write_web("foo: 1\n");
    bench.failed_reload().await;
    mount(bench.folder.path(), "..2", &text("crast-2"));
    bench.next_look("crast-2", false).await;
    bench.still_failed().await;
    bench.write_web("");
    bench.next_look("crast-2", true).await;

    // The file has changed already when the reload is asked for.
    bench.write_web("foo: 1\n");
    mount(bench.folder.path(), "..3", &text("crast-3"));
    bench.failed_reload().await;
    bench.next_look("crast-3", false).await;
    bench.write_web("");
    bench.next_look("crast-3", true).await;
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_broken_files_both_have_to_be_mended() {
    let mut bench = Bench::new();
    let data = bench.folder.path().join("..data");
    std::fs::remove_file(&data).unwrap();
    bench.write_web("foo: 1\n");
    let error = bench.failed_reload().await;
    assert!(
        error.contains("config.yaml") && error.contains("web.yaml:1:1: foo"),
        "{error}"
    );
    mount(bench.folder.path(), "..2", &text("crast-1"));
    bench.next_look("crast-1", false).await;
    bench.write_web("");
    bench.next_look("crast-1", true).await;

    // The other order, and a mistake in place of a missing file.
    mount(bench.folder.path(), "..3", "instances: 5\n");
    bench.write_web("foo: 1\n");
    bench.failed_reload().await;
    bench.write_web("");
    bench.still_failed().await;
    mount(bench.folder.path(), "..4", &text("crast-1"));
    bench.next_look("crast-1", true).await;
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_web_configuration_that_is_mended_but_not_used_does_not_count() {
    let mut bench = Bench::new();
    let header = "http_server_config: { headers: { X-Frame-Options: deny } }\n";
    // bcrypt of "x".
    let passwords =
        "basic_auth_users: { a: '$2y$04$LVfbxiCXyO9HLgL5tTtCeO.R/NnqBnpt5ShePB1Td6UnVBYX0u0Be' }\n";
    bench.write_web(passwords);
    assert!(bench.web.is_up_to_date().await);
    bench.write_web("foo: 1\n");
    bench.failed_reload().await;
    // It would open what is closed now, which takes another reload.
    bench.write_web(header);
    bench.still_failed().await;
    bench.write_web(passwords);
    bench.next_look("crast-1", true).await;
    bench.end().await;
}
