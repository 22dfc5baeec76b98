//! Chords with parts that add others, or end without a result.

use celeriac::canvas::{chain, chord};
use celeriac::message::Signature;
use celeriac::{Value, value};

use crate::stage::{SOON, Stage};

fn task(name: &str) -> Signature {
    Signature::new(format!("canvas.{name}"))
}

#[tokio::test]
async fn each_member_of_a_group_that_is_added_to_a_chord_is_a_part_of_it() {
    let stage = Stage::new();
    let _worker = stage.worker(4);
    let header = [task("grow").arg(3), task("double").arg(50)];
    let sum = stage.client().apply(chord(header, task("wrap").arg("all"))).await.unwrap();
    let Value::List(found) = sum.get(SOON).await.unwrap() else { panic!("a list") };
    let mut parts: Vec<i64> = found[1].as_list().unwrap().iter().filter_map(Value::as_i64).collect();
    parts.sort_unstable();
    assert_eq!(parts, [-1, 0, 2, 4, 6, 8, 10, 100]);
}

#[tokio::test]
async fn a_chord_ends_although_a_part_ignores_itself() {
    let stage = Stage::new();
    let _worker = stage.worker(4);
    let client = stage.client();
    let body = || task("wrap").arg("all");
    let one = || task("double").arg(1).immutable(true);
    let failed = client.apply(chord([one(), task("ignore")], body())).await.unwrap();
    let error = failed.get(SOON).await.unwrap_err().to_string();
    assert!(error.contains("Ignore"), "{error}");

    // What would follow it never runs; what waits for that ends too.
    let cut = chain([task("ignore"), one()]);
    let failed = client.apply(chord([one(), cut], body())).await.unwrap();
    let error = failed.get(SOON).await.unwrap_err().to_string();
    assert!(error.contains("Ignore"), "{error}");

    let own = task("store_and_ignore").arg(7);
    let stored = client.apply(chord([one(), own], body())).await.unwrap();
    assert_eq!(stored.get(SOON).await.unwrap(), value!(["all", [2, 7]]));
}
