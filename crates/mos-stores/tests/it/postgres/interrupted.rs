//! Work on two stores that breaks off in the middle: nothing half-made or half-deleted is seen, and whoever comes next
//! finishes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mos_core::{Access, Cube, CubeId, ScopeLifecycle, StoreError, UserId, UserRole, UserStore};
use mos_stores::PostgresUsers;
use tokio::sync::Notify;

use super::server::{Interrupted, Schema, cube, whole};

fn c() -> CubeId {
    CubeId::new("c")
}

fn down() -> StoreError {
    StoreError::Unavailable { backend: "record", source: "it is down".into() }
}

/// A store with the cube `c`, which holds a memory and is shared with ann.
async fn with_a_cube(schema: &Schema) -> (Arc<PostgresUsers>, Arc<Interrupted>) {
    let record = Interrupted::new();
    let store = schema.open(record.clone()).await.unwrap();
    store.create_user(&UserId::new("ann"), "ann", UserRole::User).await.unwrap();
    store.create_cube(&cube("c")).await.unwrap();
    store.share(&c(), &UserId::new("ann"), Access::Member).await.unwrap();
    record.write("c").await.unwrap();
    (store, record)
}

async fn assert_out_of_sight(store: &PostgresUsers) {
    assert_eq!(store.cube(&c()).await.unwrap(), None);
    assert_eq!(store.cubes(None).await.unwrap(), []);
    for user in ["root", "ann"] {
        assert_eq!(store.access(&UserId::new(user), &c()).await.unwrap(), None);
        assert_eq!(store.cubes(Some(&UserId::new(user))).await.unwrap(), []);
    }
    assert!(matches!(store.set_registered(&c(), true).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.share(&c(), &UserId::new("ann"), Access::Member).await, Err(StoreError::NotFound { .. })));
}

async fn assert_takes_no_writes(record: &Interrupted) {
    assert_eq!(record.count("c").await, 0);
    assert!(matches!(record.write("c").await, Err(StoreError::NotFound { what: "cube", .. })));
}

#[tokio::test]
async fn a_deletion_whose_record_is_away_is_out_of_sight_and_finished_at_the_next_open() {
    let Some(schema) = Schema::new().await else { return };
    let (store, record) = with_a_cube(&schema).await;
    record.before(async |_| Err(down()));
    let error = store.delete_cube(&c()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { backend: "record", .. }), "{error}");
    assert_out_of_sight(&store).await;
    drop(store);
    let store = schema.open(record.clone()).await.unwrap();
    assert_out_of_sight(&store).await;
    assert_eq!(record.count("c").await, 1, "the record is still away");
    record.undisturbed();
    let store = schema.open(record.clone()).await.unwrap();
    assert_takes_no_writes(&record).await;
    assert_eq!(schema.number("SELECT count(*) FROM cubes").await, 0);
    assert!(matches!(store.delete_cube(&c()).await, Err(StoreError::NotFound { .. })));
    schema.drop().await;
}

#[tokio::test]
async fn a_deletion_that_broke_off_can_be_asked_for_again() {
    let Some(schema) = Schema::new().await else { return };
    let (store, record) = with_a_cube(&schema).await;
    record.before(async |_| Err(down()));
    store.delete_cube(&c()).await.unwrap_err();
    record.undisturbed();
    // The next call finishes it, whatever it was for.
    store.create_cube(&cube("another")).await.unwrap();
    assert_takes_no_writes(&record).await;
    assert_eq!(schema.number("SELECT count(*) FROM cubes").await, 1);
    schema.drop().await;
}

#[tokio::test]
async fn a_later_owner_gets_nothing_of_an_unfinished_deletion() {
    let Some(schema) = Schema::new().await else { return };
    let (store, record) = with_a_cube(&schema).await;
    record.before(async |call| if call == "close" { Err(down()) } else { Ok(()) });
    store.delete_cube(&c()).await.unwrap_err();
    assert_eq!(record.count("c").await, 1);
    let of_ann = Cube { owner_id: UserId::new("ann"), ..cube("c") };
    store.create_cube(&of_ann).await.unwrap();
    assert_eq!(record.count("c").await, 0);
    record.write("c").await.unwrap();
    assert_eq!(store.access(&UserId::new("ann"), &c()).await.unwrap(), Some(Access::Owner));
    assert_eq!(store.access(&UserId::new("root"), &c()).await.unwrap(), None);
    record.undisturbed();
    schema.open(record.clone()).await.unwrap();
    assert_eq!(record.count("c").await, 1, "nothing is left over");
    schema.drop().await;
}

#[tokio::test]
async fn a_cube_whose_record_is_away_is_not_made() {
    let Some(schema) = Schema::new().await else { return };
    let record = Interrupted::new();
    let store = schema.open(record.clone()).await.unwrap();
    record.before(async |_| Err(down()));
    let error = store.create_cube(&cube("c")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { backend: "record", .. }), "{error}");
    assert_eq!(store.cubes(None).await.unwrap(), []);
    record.undisturbed();
    store.create_cube(&cube("c")).await.unwrap();
    record.write("c").await.unwrap();
    schema.drop().await;
}

/// The server hangs up while the record works: the call fails, the pool recovers, and the next call finishes.
#[tokio::test]
async fn connections_that_are_cut_in_mid_transaction_leave_nothing_half_done() {
    let Some(schema) = Schema::new().await else { return };
    let (store, record) = with_a_cube(&schema).await;
    let cut_once = |call: &'static str| {
        let (schema, is_done) = (schema.clone(), Arc::new(AtomicBool::new(false)));
        record.before(move |at| {
            let (schema, is_done) = (schema.clone(), Arc::clone(&is_done));
            async move {
                if at == call && !is_done.swap(true, Ordering::SeqCst) {
                    assert!(schema.cut_connections().await >= 1);
                }
                Ok(())
            }
        });
    };
    cut_once("close");
    let error = store.delete_cube(&c()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { backend: "postgres", .. }), "{}", whole(&error));
    assert_out_of_sight(&store).await;
    assert_takes_no_writes(&record).await;
    cut_once("open");
    let error = store.create_cube(&cube("c")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { backend: "postgres", .. }), "{}", whole(&error));
    assert_out_of_sight(&store).await;
    store.create_cube(&Cube { is_registered: false, ..cube("c") }).await.unwrap();
    cut_once("discard");
    let error = store.discard_cube(&c()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { backend: "postgres", .. }), "{}", whole(&error));
    assert_out_of_sight(&store).await;
    assert_takes_no_writes(&record).await;
    assert_eq!(schema.number("SELECT count(*) FROM cubes").await, 0, "whoever looked has finished it");
    schema.drop().await;
}

/// Its connection was cut while the record was slow; by the time it erases, the id belongs to another cube.
#[tokio::test]
async fn a_deletion_that_comes_late_erases_nothing_of_a_later_cube() {
    let Some(schema) = Schema::new().await else { return };
    let (store, record) = with_a_cube(&schema).await;
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let is_first = Arc::new(AtomicBool::new(true));
    record.before({
        let (reached, go_on) = (Arc::clone(&reached), Arc::clone(&go_on));
        move |call| {
            let (reached, go_on) = (Arc::clone(&reached), Arc::clone(&go_on));
            let waits = call == "close" && is_first.swap(false, Ordering::SeqCst);
            async move {
                if waits {
                    reached.notify_one();
                    go_on.notified().await;
                }
                Ok(())
            }
        }
    });
    let late = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.delete_cube(&c()).await }
    });
    reached.notified().await;
    assert!(schema.cut_connections().await >= 1);
    let other = schema.open(record.clone()).await.unwrap();
    other.create_cube(&cube("c")).await.unwrap();
    record.write("c").await.unwrap();
    go_on.notify_one();
    let error = late.await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { backend: "postgres", .. }), "{}", whole(&error));
    assert_eq!(record.count("c").await, 1);
    record.write("c").await.unwrap();
    assert!(store.cube(&c()).await.unwrap().is_some());
    schema.drop().await;
}

#[tokio::test]
async fn what_a_killed_process_left_is_settled_by_who_looks() {
    let Some(schema) = Schema::new().await else { return };
    let (store, record) = with_a_cube(&schema).await;
    // Asked whether it may go, and not yet answered: it holds a memory and stays.
    schema.run("UPDATE cubes SET phase = 'discarding', is_registered = false").await;
    assert!(store.cube(&c()).await.unwrap().is_some());
    assert_eq!(schema.number("SELECT count(*) FROM cubes WHERE phase = 'ready'").await, 1);
    // Its memories were closed, and then the process was killed: nobody sees a cube that takes none.
    schema.run("UPDATE cubes SET phase = 'discarding'").await;
    let generation = schema.number("SELECT generation FROM cubes").await.unsigned_abs();
    record.close_scope(&mos_core::Scope::of(&c()), generation).await.unwrap();
    assert_out_of_sight(&store).await;
    // Killed while it was made.
    store.create_cube(&cube("c")).await.unwrap();
    schema.run("UPDATE cubes SET phase = 'making'").await;
    assert_out_of_sight(&store).await;
    schema.open(record.clone()).await.unwrap();
    assert_eq!(schema.number("SELECT count(*) FROM cubes").await, 1, "it may be being made right now");
    schema.run("UPDATE cubes SET updated_at = updated_at - interval '61 seconds'").await;
    let record_of_then = Interrupted::new();
    schema.open(record_of_then.clone()).await.unwrap();
    assert_eq!(schema.number("SELECT count(*) FROM cubes").await, 0);
    assert_takes_no_writes(&record_of_then).await;
    schema.drop().await;
}

/// Somebody else makes a cube just now, or was killed while at it: after a moment the id is free.
#[tokio::test]
async fn a_cube_that_is_being_made_is_waited_for_but_not_for_ever() {
    let Some(schema) = Schema::new().await else { return };
    let (store, record) = with_a_cube(&schema).await;
    schema.run("UPDATE cubes SET phase = 'making', updated_at = clock_timestamp() AT TIME ZONE 'UTC'").await;
    let of_ann = Cube { owner_id: UserId::new("ann"), ..cube("c") };
    store.create_cube(&of_ann).await.unwrap();
    assert_eq!(record.count("c").await, 0, "what stood there is nobody's");
    assert_eq!(store.access(&UserId::new("ann"), &c()).await.unwrap(), Some(Access::Owner));
    record.write("c").await.unwrap();
    // The clock was set back since: that is no living claim either.
    schema.run("UPDATE cubes SET phase = 'making', updated_at = updated_at + interval '1 hour'").await;
    store.create_cube(&cube("c")).await.unwrap();
    assert_eq!(record.count("c").await, 0);
    schema.drop().await;
}

/// The clock of the server goes an hour back: cubes can be made all the same, also of ids that were used before.
#[tokio::test]
async fn a_clock_that_is_set_back_blocks_no_id() {
    let Some(schema) = Schema::new().await else { return };
    let (store, record) = with_a_cube(&schema).await;
    let scope = mos_core::Scope::of(&c());
    let later = record.generation(&scope).await.unwrap() + 3_600_000_000;
    store.delete_cube(&c()).await.unwrap();
    record.open_scope(&scope, later).await.unwrap();
    record.close_scope(&scope, later).await.unwrap();
    store.create_cube(&cube("c")).await.unwrap();
    record.write("c").await.unwrap();
    assert_eq!(record.generation(&scope).await.unwrap(), later + 1);
    store.delete_cube(&c()).await.unwrap();
    assert_takes_no_writes(&record).await;
    schema.drop().await;
}

/// Between the question for the generation and the opening somebody else had the id.
#[tokio::test]
async fn who_makes_a_cube_too_late_tries_again() {
    let Some(schema) = Schema::new().await else { return };
    let (store, record) = with_a_cube(&schema).await;
    store.delete_cube(&c()).await.unwrap();
    let is_first = Arc::new(AtomicBool::new(true));
    let past = Arc::clone(&record.record);
    record.before(move |call| {
        let (past, is_first) = (Arc::clone(&past), Arc::clone(&is_first));
        async move {
            if call == "open" && is_first.swap(false, Ordering::SeqCst) {
                let scope = mos_core::Scope::of(&c());
                let later = past.generation(&scope).await? + 3_600_000_000;
                past.close_scope(&scope, later).await?;
            }
            Ok(())
        }
    });
    store.create_cube(&cube("c")).await.unwrap();
    record.write("c").await.unwrap();
    assert_eq!(schema.number("SELECT count(*) FROM cubes WHERE phase = 'ready'").await, 1);
    schema.drop().await;
}
