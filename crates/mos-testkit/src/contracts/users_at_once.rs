//! What a store of users must do for many who write at the same time.

use std::sync::Arc;

use mos_core::users::ROOT_USER;
use mos_core::{Access, Cube, CubeId, Filter, RecordStore, StoreError, UserRole, UserStore};

use super::samples::{apply, puts, scope};
use super::users::{assert_not_found, cube, id, make_user};

/// How many write at the same time.
const N_WRITERS: usize = 8;

/// Runs `work` by so many writers at once and returns what each got.
async fn at_once<T, F>(work: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..N_WRITERS).map(|writer| tokio::spawn(work(writer))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("a writer does not panic"));
    }
    results
}

pub(super) async fn many_who_make_the_same_user_get_one(store: Arc<dyn UserStore>) {
    for round in 0..4 {
        let name = format!("ann{round}");
        let made = at_once(|writer| {
            let (store, name) = (Arc::clone(&store), name.clone());
            // Half of them bring an id of their own; one name is one user all the same.
            let own = if writer % 2 == 0 { name.clone() } else { format!("{name} {writer}") };
            async move { store.create_user(&id(&own), &name, UserRole::User).await.expect("one user") }
        })
        .await;
        assert!(made.iter().all(|user| *user == made[0]), "{made:?}");
        let name = format!("bob{round}");
        let ensured = at_once(|_| {
            let (store, name) = (Arc::clone(&store), name.clone());
            async move { store.ensure_user(&id(&name)).await.expect("one user") }
        })
        .await;
        assert!(ensured.iter().all(|user| *user == ensured[0]), "{ensured:?}");
    }
    assert_eq!(store.users().await.expect("users").len(), 1 + 2 * 4);
}

pub(super) async fn many_who_make_the_same_cube_make_one((users, record): (Arc<dyn UserStore>, Arc<dyn RecordStore>)) {
    for writer in 0..N_WRITERS {
        make_user(&*users, &format!("u{writer}")).await;
    }
    for round in 0..4 {
        let name = format!("c{round}");
        let made = at_once(|writer| {
            let (users, record, name) = (Arc::clone(&users), Arc::clone(&record), name.clone());
            async move {
                let made = users.create_cube(&cube(&name, &format!("u{writer}"), "2026")).await;
                if made.is_ok() {
                    apply(&*record, &scope(&name), puts(&[("first", "text")])).await;
                }
                made
            }
        })
        .await;
        let refused = made.iter().filter(|one| matches!(one, Err(StoreError::Conflict(_)))).count();
        assert_eq!(refused, N_WRITERS - 1, "one makes it, all others are told: {made:?}");
        let owner = made.iter().position(Result::is_ok).expect("one has made it");
        let known = users.cube(&CubeId::new(&name)).await.expect("cube").expect("it is there");
        assert_eq!(known.owner_id, id(&format!("u{owner}")));
        let n_memories = record.count(&scope(&name), &Filter::Everything).await.expect("count");
        assert_eq!(n_memories, 1, "who came too late has erased nothing");
        let gone = at_once(|_| {
            let (users, cube) = (Arc::clone(&users), CubeId::new(&name));
            async move { users.delete_cube(&cube).await }
        })
        .await;
        assert!(gone.iter().any(Result::is_ok), "{gone:?}");
        for one in gone.into_iter().filter(Result::is_err) {
            assert_not_found(one, "cube");
        }
        assert_eq!(users.cube(&CubeId::new(&name)).await.expect("cube"), None);
        assert_not_found(record.apply(&scope(&name), puts(&[("late", "text")])).await, "cube");
    }
}

pub(super) async fn many_writers_lose_nothing((users, record): (Arc<dyn UserStore>, Arc<dyn RecordStore>)) {
    const N_CUBES: usize = 5;
    at_once(|writer| {
        let (users, record) = (Arc::clone(&users), Arc::clone(&record));
        async move {
            let own = format!("u{writer}");
            make_user(&*users, &own).await;
            for number in 0..N_CUBES {
                let name = format!("{own} {number}");
                users.create_cube(&cube(&name, &own, "2026")).await.expect("a new cube");
                users.share(&CubeId::new(&name), &id(ROOT_USER), Access::Member).await.expect("share");
                apply(&*record, &scope(&name), puts(&[("a", "text")])).await;
                users.set_registered(&CubeId::new(&name), number % 2 == 0).await.expect("set");
            }
            users.delete_cube(&CubeId::new(format!("{own} 0"))).await.expect("delete");
        }
    })
    .await;
    let shared = users.cubes(Some(&id(ROOT_USER))).await.expect("cubes");
    assert_eq!(shared.len(), N_WRITERS * (N_CUBES - 1));
    for writer in 0..N_WRITERS {
        let own: Vec<String> = users
            .cubes(Some(&id(&format!("u{writer}"))))
            .await
            .expect("cubes")
            .iter()
            .map(|cube| format!("{} {}", cube.cube_id, cube.is_registered))
            .collect();
        let expected: Vec<String> =
            (1..N_CUBES).rev().map(|number| format!("u{writer} {number} {}", number % 2 == 0)).collect();
        assert_eq!(own, expected);
        for number in 0..N_CUBES {
            let n_memories = record.count(&scope(&format!("u{writer} {number}")), &Filter::Everything).await;
            assert_eq!(n_memories.expect("count"), usize::from(number > 0));
        }
    }
}

/// Makers and removers of one cube, all at once: in the end there is a cube that takes memories, or none that does.
pub(super) async fn a_cube_that_comes_and_goes_is_whole_or_gone(
    (users, record): (Arc<dyn UserStore>, Arc<dyn RecordStore>),
) {
    for round in 0..3 {
        at_once(|writer| {
            let users = Arc::clone(&users);
            async move {
                for _ in 0..6 {
                    let done = match (writer + round) % 3 {
                        0 => users.delete_cube(&CubeId::new("c")).await,
                        1 => users.discard_cube(&CubeId::new("c")).await.map(drop),
                        _ => {
                            let one = Cube { is_registered: writer % 2 == 0, ..cube("c", ROOT_USER, "2026") };
                            users.create_cube(&one).await
                        }
                    };
                    match done {
                        Ok(()) | Err(StoreError::Conflict(_) | StoreError::NotFound { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    if users.cube(&CubeId::new("c")).await.expect("cube").is_some() {
                        users.access(&id(ROOT_USER), &CubeId::new("c")).await.expect("access");
                    }
                }
            }
        })
        .await;
        let written = record.apply(&scope("c"), puts(&[("a", "text")])).await;
        match users.cube(&CubeId::new("c")).await.expect("cube") {
            Some(_) => drop(written.expect("a cube that is there takes memories")),
            None => assert_not_found(written, "cube"),
        }
    }
}
