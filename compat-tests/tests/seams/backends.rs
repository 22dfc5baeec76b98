//! What every result backend promises.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use celeriac::backend::{ChordPart, ExceptionInfo, ResultRef, TaskMeta, TaskState};
use celeriac::message::{Signature, Value};
use celeriac::testing::seam::{BackendSeam, BrokerSeam, Waited};
use compat_tests::eventually_async;

use crate::place::{NEVER, Place, SOON, message};

promises! {
    a_record_is_read_as_it_was_stored,
    a_late_copy_does_not_overwrite_a_success,
    who_waits_hears_of_the_end,
    waiting_for_many_ends_with_the_first_failure,
    a_group_is_kept_until_it_is_deleted,
    records_expire,
    a_record_that_is_too_large_becomes_a_failure,
    the_last_part_claims_the_chord_once,
    parts_are_kept_in_the_order_of_the_header,
    a_part_counts_once_however_often_it_returns,
    parts_that_are_added_are_waited_for,
    a_chord_without_size_is_not_complete,
    a_claim_is_its_owners_until_the_chord_has_ended,
    a_chord_that_failed_is_claimed_by_no_late_part,
    a_claim_that_ended_is_taken_over,
    the_body_goes_with_the_end_of_the_chord_where_both_are_joined,
}

fn success(id: &str, value: impl Into<Value>) -> TaskMeta {
    TaskMeta::new(id, TaskState::Success, value.into())
}

fn failure(id: &str) -> TaskMeta {
    TaskMeta::new(id, TaskState::Failure, ExceptionInfo::builtin("ValueError", "no").to_value())
}

fn part(group_id: &str, index: i64) -> ChordPart {
    ChordPart {
        group_id: group_id.to_owned(),
        task_id: format!("part-{index}"),
        group_index: Some(index),
        state: TaskState::Success,
        result: index.into(),
        body: Some(Signature::default()),
    }
}

async fn claims(seam: &BackendSeam, index: i64, token: &str) -> bool {
    seam.part(&part("g", index), token, b"completing", false).await.unwrap().claimed
}

async fn a_record_is_read_as_it_was_stored(place: Place) {
    let (seam, backend) = (BackendSeam::of(&place.app), place.app.backend().unwrap());
    assert!(backend.fetch("a").await.unwrap().is_none());
    let mut meta = success("a", vec![Value::from(1), "zwei".into(), Value::Null]);
    meta.traceback = Some("lines".to_owned());
    meta.group_id = Some("g".to_owned());
    meta.parent_id = Some("p".to_owned());
    meta.children = Some(vec![ResultRef::task("child")]);
    seam.store(&meta, true).await.unwrap();
    let stored = backend.fetch("a").await.unwrap().unwrap();
    assert_eq!(TaskMeta { date_done: None, ..stored }, TaskMeta { date_done: None, ..meta });
    seam.store(&success("b", 2), true).await.unwrap();
    let many = seam.fetch_many(&["b", "unknown", "a"]).await.unwrap();
    let ids: Vec<_> = many.iter().map(|meta| meta.as_ref().map(|meta| meta.task_id.as_str())).collect();
    assert_eq!(ids, [Some("b"), None, Some("a")]);
    backend.forget("a").await.unwrap();
    assert!(backend.fetch("a").await.unwrap().is_none());
}

async fn a_late_copy_does_not_overwrite_a_success(place: Place) {
    let (seam, backend) = (BackendSeam::of(&place.app), place.app.backend().unwrap());
    let state = async || backend.fetch("a").await.unwrap().unwrap().status;
    seam.store(&failure("a"), false).await.unwrap();
    assert_eq!(state().await, TaskState::Failure, "where nothing is stored it is");
    seam.store(&success("a", 1), false).await.unwrap();
    assert_eq!(state().await, TaskState::Success, "over anything else it is too");
    seam.store(&failure("a"), false).await.unwrap();
    backend.store(&failure("a")).await.unwrap();
    assert_eq!(state().await, TaskState::Success);
    seam.store(&failure("a"), true).await.unwrap();
    assert_eq!(state().await, TaskState::Failure, "a fresh one overwrites it");
}

async fn who_waits_hears_of_the_end(place: Place) {
    let app = place.app.clone();
    let waiting = tokio::spawn(async move { app.backend().unwrap().wait("a", SOON).await });
    let seam = BackendSeam::of(&place.app);
    seam.store(&TaskMeta::new("a", TaskState::Started, Value::Null), true).await.unwrap();
    seam.store(&success("a", 1), true).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().result, 1.into());
    let backend = place.app.backend().unwrap();
    assert_eq!(backend.wait("a", SOON).await.unwrap().result, 1.into(), "what is there already counts");
    let late = backend.wait("never", NEVER).await.unwrap_err();
    assert!(matches!(late, celeriac::backend::BackendError::Timeout { .. }), "{late}");
}

async fn waiting_for_many_ends_with_the_first_failure(place: Place) {
    let seam = BackendSeam::of(&place.app);
    seam.store(&success("b", 2), true).await.unwrap();
    assert_eq!(seam.wait_all(&["b", "a"], NEVER).await.unwrap(), Waited::Missing(1));
    seam.store(&success("a", 1), true).await.unwrap();
    let ready = Waited::Ready(vec![2.into(), 1.into()]);
    assert_eq!(seam.wait_all(&["b", "a"], SOON).await.unwrap(), ready);
    seam.store(&failure("c"), true).await.unwrap();
    let failed = Waited::Failed("c".to_owned());
    assert_eq!(seam.wait_all(&["never", "a", "c"], SOON).await.unwrap(), failed);
}

async fn a_group_is_kept_until_it_is_deleted(place: Place) {
    let (seam, backend) = (BackendSeam::of(&place.app), place.app.backend().unwrap());
    let group = ResultRef::group("g", vec![ResultRef::task("a"), ResultRef::group("h", vec![])]);
    seam.save_group(&group).await.unwrap();
    assert_eq!(backend.restore_group("g").await.unwrap().unwrap().to_value(), group.to_value());
    assert!(backend.restore_group("h").await.unwrap().is_none());
    backend.delete_group("g").await.unwrap();
    assert!(backend.restore_group("g").await.unwrap().is_none());
}

async fn records_expire(place: Place) {
    let place = place.again(|config| {
        config.result_expires = Some(Duration::from_secs(1));
        config.result_failure_expires = Some(Duration::from_secs(3600));
    });
    let (seam, backend) = (BackendSeam::of(&place.app), place.app.backend().unwrap());
    seam.store(&failure("failed"), true).await.unwrap();
    seam.store(&success("a", 1), true).await.unwrap();
    assert!(backend.fetch("a").await.unwrap().is_some());
    let gone = || async { backend.fetch("a").await.unwrap().is_none() };
    eventually_async("the record has expired", SOON, gone).await;
    assert!(backend.fetch("failed").await.unwrap().is_some(), "failures are kept for longer");
}

async fn a_record_that_is_too_large_becomes_a_failure(place: Place) {
    let place = place.again(|config| config.celeriac_max_result_bytes = 1000);
    let seam = BackendSeam::of(&place.app);
    seam.store(&success("a", "x".repeat(2000)), true).await.unwrap();
    let stored = place.app.backend().unwrap().fetch("a").await.unwrap().unwrap();
    assert_eq!(stored.status, TaskState::Failure);
    assert_eq!(ExceptionInfo::from_value(&stored.result).exc_type, "EncodeError");
}

async fn the_last_part_claims_the_chord_once(place: Place) {
    let seam = Arc::new(BackendSeam::of(&place.app));
    seam.size("g", 20).await.unwrap();
    let returning = (0..20).map(|index| {
        let seam = Arc::clone(&seam);
        tokio::spawn(async move { claims(&seam, index, &format!("token-{index}")).await })
    });
    let mut claimed = 0;
    for returned in returning.collect::<Vec<_>>() {
        claimed += usize::from(returned.await.unwrap());
    }
    assert_eq!(claimed, 1);
    assert_eq!(seam.parts("g").await.unwrap().len(), 20);
    assert_eq!(seam.unsent().await.unwrap(), 1);
}

async fn parts_are_kept_in_the_order_of_the_header(place: Place) {
    let seam = BackendSeam::of(&place.app);
    seam.size("g", 3).await.unwrap();
    for index in [2, 0, 1] {
        assert_eq!(claims(&seam, index, "token").await, index == 1);
    }
    let results: Vec<Value> =
        seam.parts("g").await.unwrap().into_iter().map(|(_, _, result)| result).collect();
    assert_eq!(results, [0.into(), 1.into(), 2.into()]);
}

async fn a_part_counts_once_however_often_it_returns(place: Place) {
    let seam = BackendSeam::of(&place.app);
    seam.size("g", 2).await.unwrap();
    for _ in 0..3 {
        assert!(!claims(&seam, 0, "token").await);
    }
    assert_eq!(seam.parts("g").await.unwrap().len(), 1);
    assert!(claims(&seam, 1, "token").await);
    assert!(!claims(&seam, 1, "other").await, "it is claimed already");
}

async fn parts_that_are_added_are_waited_for(place: Place) {
    let seam = BackendSeam::of(&place.app);
    seam.size("g", 1).await.unwrap();
    seam.grow("g", 1).await.unwrap();
    assert!(!claims(&seam, 0, "token").await);
    assert!(claims(&seam, 1, "token").await);
}

async fn a_chord_without_size_is_not_complete(place: Place) {
    let seam = BackendSeam::of(&place.app);
    let taken = seam.part(&part("g", 0), "token", b"completing", false).await.unwrap();
    assert!(!taken.claimed && !taken.has_size);
    assert_eq!(seam.unsent().await.unwrap(), 1, "somebody has to see when there never will be a size");
    seam.size("g", 2).await.unwrap();
    let taken = seam.part(&part("g", 1), "token", b"completing", false).await.unwrap();
    assert!(taken.claimed && taken.has_size);
}

async fn a_claim_is_its_owners_until_the_chord_has_ended(place: Place) {
    let seam = BackendSeam::of(&place.app);
    seam.size("g", 1).await.unwrap();
    assert!(claims(&seam, 0, "mine").await);
    assert!(seam.extend_claim("g", "mine").await.unwrap());
    assert!(!seam.extend_claim("g", "other").await.unwrap());
    seam.end("g", "other").await.unwrap();
    assert_eq!(seam.unsent().await.unwrap(), 1, "who has no claim ends nothing");
    seam.end("g", "mine").await.unwrap();
    assert_eq!(seam.unsent().await.unwrap(), 0);
    assert!(seam.parts("g").await.unwrap().is_empty());
    let late = seam.part(&part("g", 0), "late", b"completing", true).await.unwrap();
    let stale = seam.stale_part(&part("g", 0), "stale", b"completing").await.unwrap();
    assert!(!late.claimed && !stale.claimed, "a late copy of a part does not send the body again");
    assert_eq!(seam.unsent().await.unwrap(), 0, "nor is the chord looked for");
    assert!(!seam.extend_claim("g", "mine").await.unwrap());
}

async fn a_chord_that_failed_is_claimed_by_no_late_part(place: Place) {
    let seam = BackendSeam::of(&place.app);
    seam.size("g", 2).await.unwrap();
    assert!(!claims(&seam, 0, "token").await);
    seam.fail("g").await.unwrap();
    assert!(!seam.part(&part("g", 1), "late", b"", true).await.unwrap().claimed);
    assert_eq!(seam.parts("g").await.unwrap().len(), 1, "what had returned can still be looked at");
}

async fn a_claim_that_ended_is_taken_over(place: Place) {
    // A claim lasts for twice the time that results are waited for, and at least 5 s.
    let place = place.again(|config| config.result_chord_join_timeout = Duration::from_secs(1));
    let seam = BackendSeam::of(&place.app);
    seam.size("g", 1).await.unwrap();
    assert!(claims(&seam, 0, "dead").await);
    assert!(seam.overdue().await.unwrap().is_empty());
    assert!(seam.reclaim("g", "mine").await.unwrap().is_none(), "its owner may be at work");
    eventually_async("the claim has ended", SOON, || async { !seam.overdue().await.unwrap().is_empty() })
        .await;
    let reclaim = || async { seam.reclaim("g", "mine").await.unwrap() };
    let (completing, is_gone) = eventually_async("it is taken over", SOON, reclaim).await;
    assert_eq!((completing.as_slice(), is_gone), (&b"completing"[..], false));
    assert!(!seam.extend_claim("g", "dead").await.unwrap());
    assert!(seam.extend_claim("g", "mine").await.unwrap());
    assert!(seam.overdue().await.unwrap().is_empty());
}

async fn the_body_goes_with_the_end_of_the_chord_where_both_are_joined(place: Place) {
    if !BrokerSeam::of(&place.app).joins(&place.app) {
        return;
    }
    let seam = BackendSeam::of(&place.app);
    seam.size("g", 1).await.unwrap();
    assert!(claims(&seam, 0, "mine").await);
    let body = [message("body", "q")];
    assert!(!seam.end_and_publish("g", "other", &body).await.unwrap());
    assert_eq!(place.app.broker().length("q").await.unwrap(), 0);
    assert!(seam.end_and_publish("g", "mine", &body).await.unwrap());
    assert_eq!((place.app.broker().length("q").await.unwrap(), seam.unsent().await.unwrap()), (1, 0));
    let lengths = BTreeSet::from([seam.parts("g").await.unwrap().len()]);
    assert_eq!(lengths, BTreeSet::from([0]));
}
