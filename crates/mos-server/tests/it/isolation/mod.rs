//! Nobody reaches what belongs to somebody else, by any route or tool.
//!
//! The tables ([`own`], [`product`], [`talking`], [`knowledge`], [`dashboard`], [`tools`]) say for every operation what it
//! needs, and how it is asked about the things of a tenant. What is registered and not in a table fails a test, and so does what
//! is in a table and not registered. Every request is sent by everybody who should have no answer: without a key, with a key of
//! another tenant, with one of another cube, with one that only reads. An answer is good when it refuses, or when it is the same
//! as about things that never existed; and it holds no word and no name that the request did not hold. A refusal to who names
//! nothing but a memory is the same as about nothing, too; one to who names a cube may tell that its id is taken. That the
//! requests are fair is shown by sending them with the owner's key.
//!
//! The chat model repeats what it is given: memories that stood in a prompt would stand in the answer.

mod asked;
mod dashboard;
mod house;
mod knowledge;
mod own;
mod product;
mod stranger;
mod talking;
mod tools;
mod verdict;

use std::collections::BTreeSet;

use mos::keys::NewKey;
use mos_core::{Access, CubeId, Scope, UserId};
use mos_server::PUBLIC;
use serde_json::{Value, json};

use self::asked::{Named, Need, Operation, at};
use self::house::{Tenant, Tenants};
use self::stranger::Stranger;
use self::verdict::Secrets;

/// The user who owns nothing of what is asked for.
const OTHER: &str = "grimbald";

/// The template of a profile.
const PROFILE: &str = "home";

/// A key of business chats.
const BUSINESS_KEY: &str = "plumbago";

/// Every operation of the tables.
fn table() -> impl Iterator<Item = &'static Operation> {
    let of_sdk = talking::OPERATIONS.iter().chain(knowledge::OPERATIONS);
    let others = [own::OPERATIONS, product::OPERATIONS, dashboard::OPERATIONS, tools::OPERATIONS];
    of_sdk.chain(others.into_iter().flatten())
}

/// Things that never existed, of a user that may.
fn nothing(user: &str) -> Named {
    Named {
        user: user.to_owned(),
        cube: "nowherecube".to_owned(),
        memory: "00000000-0000-4000-8000-00000000dead".to_owned(),
        apart: "00000000-0000-4000-8000-00000000feed".to_owned(),
        task: "nothingtask".to_owned(),
        sdk_task: format!("{user}:00000000-0000-4000-8000-00000000beef"),
        session: "nosession".to_owned(),
        key: "nokey".to_owned(),
        base: "kb-00000000-0000-4000-8000-00000000cafe".to_owned(),
        file: "kb-00000000-0000-4000-8000-00000000cafe:nofile".to_owned(),
    }
}

/// What nobody but a tenant may learn of it.
fn secrets_of(tenant: &Tenant) -> Secrets<'_> {
    let Named { user, cube, memory, apart, task, key, base, file, .. } = &tenant.named;
    let mut markers: Vec<&str> = tenant.markers.iter().map(String::as_str).collect();
    markers.push(tenant.shelf_marker.as_str());
    let names = [user, cube, memory, apart, task, key, base, file, &tenant.shelf].map(String::as_str).to_vec();
    Secrets { markers, names }
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_route_and_tool_is_in_a_table_and_nothing_else() {
    let tenants = Tenants::open().await;
    let mut served: BTreeSet<String> =
        tenants.routes.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(served.len(), tenants.routes.len(), "nothing is registered twice");
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let listed = tenants.done("POST", asked::arguments(list), &tenants.root).await;
    let tools = listed["result"]["tools"].as_array().unwrap();
    served.extend(tools.iter().map(|tool| format!("tool {}", tool["name"].as_str().unwrap())));
    let known: BTreeSet<String> = table().map(|operation| operation.name.to_owned()).collect();
    assert_eq!(known.len(), table().count(), "nothing is in the tables twice");
    let missing: Vec<&String> = served.difference(&known).collect();
    let gone: Vec<&String> = known.difference(&served).collect();
    assert!(missing.is_empty() && gone.is_empty(), "in no table: {missing:?}; not registered: {gone:?}");
    let public: BTreeSet<&str> = PUBLIC.iter().copied().collect();
    let open: BTreeSet<&str> =
        table().filter(|one| one.need == Need::Open).map(|one| one.name.trim_start_matches("GET ")).collect();
    assert_eq!(open, public, "what needs no key");
    tenants.close().await;
}

#[tokio::test]
async fn who_has_no_key_is_answered_nothing() {
    let tenants = Tenants::open().await;
    let alice = tenants.furnished_tenant(1).await;
    let secrets = secrets_of(&alice);
    let mut wrong = Vec::new();
    for operation in table() {
        for ask in operation.asks {
            let asked = ask(&alice.named);
            let answer = tenants.ask(operation, &asked, None).await;
            let is_good = match operation.need {
                Need::Open => answer.status == 200,
                _ => answer.status == 401,
            };
            // Not even a name that the request holds is said again.
            let repeats = secrets.names.iter().chain(&secrets.markers).any(|secret| answer.text.contains(*secret));
            if !is_good || repeats {
                wrong.push(format!("{}: {} {}", operation.name, answer.status, answer.text));
            }
        }
    }
    let unknown = format!("krlk_{}", "0".repeat(64));
    let paths: BTreeSet<String> = table().map(|operation| operation.asks[0](&alice.named).path).collect();
    let is_open = |path: &str| table().any(|one| one.need == Need::Open && one.asks[0](&alice.named).path == path);
    for path in paths.iter().filter(|path| !is_open(path)) {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            let answer = tenants.send(method, &at(path.as_str()), None).await;
            // What no handler is there for needs none to be refused.
            if ![401, 405].contains(&answer.status) {
                wrong.push(format!("{method} {path} without a key: {} {}", answer.status, answer.text));
            }
        }
    }
    let answer = tenants.send("GET", &at("/product/scheduler/allstatus"), Some(&unknown)).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_none(&wrong);
    tenants.close().await;
}

/// Asks for everything of a tenant with a key of [`OTHER`], as this user, else as the tenant itself.
async fn is_kept_out(kind: Kind, user: Option<&str>) {
    let tenants = Tenants::open().await;
    let alice = tenants.furnished_tenant(1).await;
    let cubes = alice.cubes();
    let before = tenants.state_of(&alice, &cubes).await;
    let key = match kind {
        Kind::Usual => tenants.key(NewKey::user(OTHER)).await,
        Kind::EveryScope => tenants.pretender(OTHER).await,
    };
    let victim = Named { user: user.unwrap_or(&alice.named.user).to_owned(), ..alice.named.clone() };
    let nothing = nothing(user.unwrap_or("nobodyhere"));
    let stranger = Stranger { key: &key, victim, nothing, secrets: secrets_of(&alice) };
    assert_none(&stranger.asks(&tenants).await);
    assert_eq!(tenants.state_of(&alice, &cubes).await, before);
    tenants.close().await;
}

/// What a key allows.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Usual,
    EveryScope,
}

#[tokio::test]
async fn who_asks_as_another_tenant_reaches_nothing_and_changes_nothing() {
    is_kept_out(Kind::Usual, None).await;
}

#[tokio::test]
async fn who_asks_for_things_of_another_tenant_reaches_nothing_and_changes_nothing() {
    is_kept_out(Kind::Usual, Some(OTHER)).await;
}

#[tokio::test]
async fn every_scope_on_a_key_makes_no_administrator_of_a_user() {
    is_kept_out(Kind::EveryScope, Some(OTHER)).await;
}

#[tokio::test]
async fn a_key_of_one_cube_reaches_no_other_of_its_user() {
    let tenants = Tenants::open().await;
    let alice = tenants.furnished_tenant(1).await;
    let key = tenants.narrow(&alice.named.user, &alice.shelf).await;
    let cubes = [&alice.named.cube, &alice.named.user, &alice.named.base].map(String::as_str);
    let before = tenants.state_of(&alice, &cubes).await;
    let Named { cube, memory, apart, task, base, file, .. } = &alice.named;
    let names = [cube, memory, apart, task, base, file].map(String::as_str).to_vec();
    let secrets = Secrets { markers: alice.markers.iter().map(String::as_str).collect(), names };
    let nothing = nothing(&alice.named.user);
    let stranger = Stranger { key: &key, victim: alice.named.clone(), nothing, secrets };
    assert_none(&stranger.asks(&tenants).await);
    assert_eq!(tenants.state_of(&alice, &cubes).await, before);
    tenants.close().await;
}

#[tokio::test]
async fn who_may_only_read_a_cube_changes_nothing_in_it() {
    let tenants = Tenants::open().await;
    let alice = tenants.furnished_tenant(1).await;
    let [owner, reader] = [alice.named.user.as_str(), OTHER].map(UserId::from);
    let shared = CubeId::from(alice.named.cube.as_str());
    tenants.mos().share_cube_with(&owner, &shared, &reader, Access::Reader).await.unwrap();
    let key = tenants.key(NewKey::user(OTHER)).await;
    let cubes = alice.cubes();
    let before = tenants.state_of(&alice, &cubes).await;
    let named = Named { user: OTHER.to_owned(), ..alice.named.clone() };
    let read = tenants.send("GET", &at(format!("/product/get_memory/{}", named.memory)), Some(&key)).await;
    assert!(read.text.contains(&alice.markers[0]), "it may be read: {read:?}");
    for operation in table().filter(|operation| operation.need == Need::Write) {
        for ask in operation.asks {
            let answer = tenants.ask(operation, &ask(&named), Some(&key)).await;
            assert!(answer.is_fair(), "{}: {answer:?}", operation.name);
        }
        assert_eq!(tenants.state_of(&alice, &cubes).await, before, "{} has changed something", operation.name);
    }
    tenants.close().await;
}

#[tokio::test]
async fn a_key_that_only_reads_changes_nothing() {
    let tenants = Tenants::open().await;
    let alice = tenants.furnished_tenant(1).await;
    let key = tenants.reader(&alice.named.user).await;
    let cubes = alice.cubes();
    let before = tenants.state_of(&alice, &cubes).await;
    let mut wrong = Vec::new();
    for operation in table() {
        for ask in operation.asks {
            let asked = ask(&alice.named);
            let answer = tenants.ask(operation, &asked, Some(&key)).await;
            let expected = match operation.need {
                Need::Open | Need::Read => 200,
                Need::Write | Need::Admin => 403,
            };
            if answer.status != expected {
                wrong.push(format!("{} -> {} {}", asked.text(), answer.status, answer.text));
            }
        }
    }
    assert_none(&wrong);
    let after = tenants.state_of(&alice, &cubes).await;
    for what in ["memories", "cubes", "keys", "users"] {
        assert_eq!(after[what], before[what], "{what}");
    }
    tenants.close().await;
}

/// Operations whose answer to the owner holds what the others must not see.
const TELLING: [&str; 17] = [
    "POST /api/openmem/v1/search/memory",
    "POST /api/openmem/v1/get/knowledgebase-file",
    "POST /product/search",
    "POST /product/get_memory",
    "GET /product/get_memory/{memory_id}",
    "POST /product/get_memory_by_ids",
    "POST /product/get_memory_dashboard",
    "POST /product/get_all",
    "POST /product/chat/complete",
    "POST /product/chat/stream",
    "POST /v1/chat/completions",
    "GET /dashboard/api/memories",
    "GET /dashboard/api/graph",
    "GET /dashboard/api/quarantine",
    "tool search_memories",
    "tool get_memory",
    "tool chat",
];

#[tokio::test]
async fn what_is_refused_to_others_is_answered_to_its_owner() {
    let tenants = Tenants::open().await;
    let own = tenants.furnished_tenant(0).await;
    let (mut wrong, mut telling) = (Vec::new(), BTreeSet::new());
    let mut n_tenants = 0;
    for operation in table() {
        for ask in operation.asks {
            let fresh;
            let alice = if matches!(operation.need, Need::Write | Need::Admin) {
                // Each change has a tenant of its own, so that none of them stands in the way of another.
                n_tenants += 1;
                fresh = tenants.tenant(n_tenants).await;
                &fresh
            } else {
                &own
            };
            let asked = ask(&alice.named);
            let key = if operation.need == Need::Admin { &tenants.root } else { &alice.key };
            let answer = tenants.ask(operation, &asked, Some(key)).await;
            // What is there already is not made once more.
            let is_there = operation.name.contains("create_cube") || operation.name == "POST /dashboard/api/cubes";
            let is_done = answer.status == 200 || is_there && [400, 409].contains(&answer.status);
            if !is_done {
                wrong.push(format!("{} {} -> {} {}", operation.name, asked.text(), answer.status, answer.text));
            }
            if secrets_of(alice).markers.iter().any(|marker| answer.text.contains(*marker)) {
                telling.insert(operation.name);
            }
        }
    }
    assert_none(&wrong);
    for name in TELLING {
        assert!(telling.contains(name), "{name} tells its owner nothing, so that its silence to others shows nothing");
    }
    tenants.close().await;
}

#[tokio::test]
async fn counts_are_of_ones_own() {
    let tenants = Tenants::open().await;
    let alice = tenants.furnished_tenant(1).await;
    let key = tenants.key(NewKey::user(OTHER)).await;
    let all = tenants.done("GET", at("/product/scheduler/allstatus"), &key).await;
    assert_eq!(
        (&all["data"]["scheduler_summary"]["total"], &all["data"]["all_tasks_summary"]["total"]),
        (&json!(0), &json!(0))
    );
    let shown = tenants.done("POST", at("/product/get_memory_dashboard").with(json!({})), &key).await;
    let counts = shown["data"]["statistics"].as_object().unwrap();
    assert!(counts.values().all(|count| *count == json!(0)), "{shown}");
    let session = tenants.done("GET", at("/dashboard/api/session"), &key).await;
    assert_eq!((&session["cubes"], &session["users"]), (&json!([]), &json!([])));
    let usage = tenants.done("GET", at("/dashboard/api/usage"), &key).await;
    assert_eq!(usage["entries"], json!([]));
    let pretender = tenants.pretender(OTHER).await;
    tenants.done("POST", at("/dashboard/api/cubes").with(json!({"cube_id": "burrow"})), &pretender).await;
    let status = tenants.done("GET", at("/dashboard/api/scheduler?cube=burrow"), &pretender).await;
    assert!(status.get("labels").is_none(), "sums over everybody are the administrators': {status}");
    let own = tenants.done("GET", at("/product/scheduler/allstatus"), &alice.key).await;
    assert_ne!(own["data"]["scheduler_summary"]["total"], json!(0), "there is something to count");
    tenants.close().await;
}

#[tokio::test]
async fn numbers_of_the_server_name_nobody() {
    let tenants = Tenants::open().await;
    let alice = tenants.furnished_tenant(1).await;
    let stranger = tenants.key(NewKey::user(OTHER)).await;
    let path = format!("/product/get_memory/{}", alice.named.memory);
    assert_eq!(tenants.done("GET", at(path), &stranger).await["data"], Value::Null);
    let numbers = tenants.send("GET", &at("/metrics"), Some(&tenants.root)).await;
    assert_eq!(numbers.status, 200);
    let mut secrets = secrets_of(&alice);
    secrets.names.push(OTHER);
    assert_eq!(secrets.given_away(&at("/metrics"), &numbers), [""; 0]);
    tenants.close().await;
}

#[tokio::test]
async fn events_of_others_are_not_streamed() {
    let tenants = Tenants::open().await;
    let alice = tenants.tenant(1).await;
    let key = tenants.key(NewKey::user(OTHER)).await;
    let made = at("/dashboard/api/cubes").with(json!({"cube_id": "burrow"}));
    tenants.done("POST", made, &key).await;
    let mut stream = tenants.open_stream("/dashboard/api/events/stream?cube=burrow", &key).await;
    assert!(next_of(&mut stream).await.contains("open"));
    let scheduler = tenants.mos().scheduler().unwrap();
    let event = |user: &str, cube: &str, text: &str| -> mos::scheduler::Event {
        let told = json!({"item_id": format!("{user}/{text}"), "user_id": user, "mem_cube_id": cube, "label": "addMemory",
            "log_content": text, "timestamp": "2026-01-02T03:04:05"});
        serde_json::from_value(told).unwrap()
    };
    let (user, cube) = (alice.named.user.as_str(), alice.named.cube.as_str());
    for (user, cube, text) in
        [(user, cube, alice.markers[0].as_str()), (OTHER, cube, "elsewhere"), (OTHER, "burrow", "one's own")]
    {
        let scope = Scope::of(&CubeId::from(cube));
        scheduler.events().record(&scope, vec![event(user, cube, text)]).await.unwrap();
    }
    let first = next_of(&mut stream).await;
    assert!(
        first.contains("one's own") && !first.contains(&alice.markers[0]) && !first.contains("elsewhere"),
        "{first}"
    );
    drop(stream);
    tenants.close().await;
}

/// What comes next on a stream.
async fn next_of(stream: &mut reqwest::Response) -> String {
    let chunk = stream.chunk().await.unwrap().expect("the stream goes on");
    String::from_utf8(chunk.to_vec()).unwrap()
}
