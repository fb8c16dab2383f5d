//! Steps at which another process is.

use super::*;

impl Build {
    /// Another process is at the last step, with what comes of it.
    fn elsewhere<F>(mut self, other: impl Fn(Run) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Ran<Fault>>> + Send + 'static,
    {
        let last = self.nodes.last().unwrap().vertex;
        let name = self.fake.names[&last];
        self.fake.state().elsewhere.insert(name);
        self.fake.other = Some(Box::new(move |run| Box::pin(other(run.clone()))));
        self
    }
}

/// The other process may well need what only this one makes: with a slot held meanwhile, both would stand still.
#[tokio::test]
async fn nobody_waits_with_a_slot() {
    let (made, wait) = tokio::sync::watch::channel(false);
    let build = Build::default()
        .step("theirs", &[])
        .elsewhere(move |run| {
            let mut wait = wait.clone();
            async move {
                wait.wait_for(|made| *made).await.unwrap();
                Some(Ran::Found(vec![out_of(run.key)]))
            }
        })
        .step("ours", &[])
        .does(move |_, run| {
            made.send(true).unwrap();
            done(run)
        });
    let (result, fake) = build.step("top", &["theirs", "ours"]).build(1, &Cancel::new()).await;
    result.unwrap();
    assert_eq!(fake.state().ran, ["ours", "top"]);
    assert_eq!(fake.state().kept.len(), 2, "what was found is not kept again");
}

#[tokio::test]
async fn who_waited_takes_over() {
    let build = Build::default().step("a", &[]).elsewhere(|_| async { None });
    let (result, fake) = build.step("top", &["a"]).build(1, &Cancel::new()).await;
    result.unwrap();
    assert_eq!(fake.state().ran, ["a", "top"]);
    assert_eq!(fake.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_failure_elsewhere_is_one_here() {
    let build = Build::default().step("a", &[]).elsewhere(|_| async { Some(failed()) });
    let (result, fake) = build.step("top", &["a"]).build(1, &Cancel::new()).await;
    assert!(matches!(result, Err(Error::Step { vertex, .. }) if vertex == id("a")), "{result:?}");
    assert_eq!(fake.state().ran.len(), 0);
}

#[tokio::test]
async fn waiting_can_be_cancelled() {
    let cancel = Cancel::new();
    let canceller = cancel.clone();
    let build = Build::default().step("a", &[]).elsewhere(move |_| {
        let cancel = canceller.clone();
        async move {
            cancel.cancel();
            std::future::pending().await
        }
    });
    let (result, fake) = build.step("top", &["a"]).build(1, &cancel).await;
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(fake.state().ran.len(), 0);
}
