//! Who may do what: every operation of the facade, asked for by every kind of user.

use std::path::Path;

use mos::config::{GeneralMemCubeConfig, MemoryConfig};
use mos::scheduler::FeedbackRequest;
use mos::{
    Add, Chat, CubeSource, EraseOptions, Error, MemoryKind, Mos, NewCube, Organize, OrganizeModel, Remember, Search,
};
use mos_core::{Access, CubeId, MemoryId, Message, ReadInput, UserId, UserRole};
use mos_testkit::model_server::{ModelServer, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ann, bob, house, open_by, scripted, settings_in};

/// A facade in memory whose chat model is a scripted server.
pub(crate) async fn talking(server: &ModelServer) -> (TempDir, Mos) {
    server.answer_with(|_| Reply::text("Tea."));
    let folder = tempfile::tempdir().unwrap();
    let settings = json!({"store": {"backend": "memory", "config": {}}, "chat_model": scripted(server)});
    let mos = open_by(folder.path(), settings_in(folder.path(), &settings)).await;
    (folder, mos)
}

/// What an operation does to a cube.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Reads,
    Writes,
    Owns,
}

use Kind::{Owns, Reads, Writes};

const OPERATIONS: &[(&str, Kind)] = &[
    ("get", Reads),
    ("get_all", Reads),
    ("history", Reads),
    ("search", Reads),
    ("chat", Reads),
    ("read", Reads),
    ("promoted", Reads),
    ("organize_status", Reads),
    ("dump", Reads),
    ("dump_memories", Reads),
    ("content_hash", Reads),
    ("export_cube", Reads),
    ("register_again", Reads),
    ("ensure_cube", Reads),
    ("skill_archive", Reads),
    ("view.get_all", Reads),
    ("view.search", Reads),
    ("view.chat", Reads),
    ("cube", Writes),
    ("add", Writes),
    ("remember", Writes),
    ("add_skills", Writes),
    ("chat.remember", Writes),
    ("update", Writes),
    ("undo", Writes),
    ("delete", Writes),
    ("delete_all", Writes),
    ("load", Writes),
    ("load_memories", Writes),
    ("organize", Writes),
    ("learn_preferences", Writes),
    ("feedback", Writes),
    ("view.add", Writes),
    ("view.remember", Writes),
    ("share", Owns),
    ("cube_shares", Owns),
    ("unshare", Owns),
    ("unregister", Owns),
    ("reembed", Owns),
    ("delete_cube", Owns),
];

/// A user, and a cube of ann's with one memory that was changed once.
struct Case<'a> {
    mos: &'a Mos,
    folder: &'a Path,
    user: UserId,
    cube: CubeId,
    id: MemoryId,
}

impl Case<'_> {
    fn chat(&self, text: &str) -> Chat {
        Chat::new(text).user(self.user.clone()).cubes([self.cube.clone()])
    }

    fn search(&self) -> Search {
        Search::new("who drinks tea?").user(self.user.clone()).cubes([self.cube.clone()])
    }

    fn remember(&self) -> Remember {
        let input = ReadInput::from_value(json!([{"role": "user", "content": "My dog Max is three years old."}]));
        Remember::new(input).user(self.user.clone()).cube(self.cube.clone())
    }
}

async fn answered(mos: &Mos, chat: Chat) -> mos::Result<()> {
    mos.chat(chat).await?.complete().await.map(drop)
}

async fn read(operation: &str, case: &Case<'_>) -> mos::Result<()> {
    let Case { mos, folder, user, cube, id } = case;
    let (one, path) = (Some(cube), folder.join(cube.as_str()));
    match operation {
        "get" => mos.get(user, one, id).await.map(drop),
        "get_all" => mos.get_all(user, one).await.map(drop),
        "history" => mos.history(user, one, id).await.map(drop),
        "search" => mos.search(case.search()).await.map(drop),
        "chat" => answered(mos, case.chat("What do I drink?")).await,
        "read" => mos.read(case.remember()).await.map(drop),
        "promoted" => mos.promoted(user, one).await.map(drop),
        "organize_status" => mos.organize_status(user, one).await.map(drop),
        "dump" => mos.dump(user, one, &path).await,
        "dump_memories" => mos.dump_memories(user, one, &path, &[MemoryKind::Text]).await.map(drop),
        "content_hash" => mos.content_hash(user, one).await.map(drop),
        "export_cube" => mos.export_cube(user, one, &path).await.map(drop),
        "register_again" => mos.register_mem_cube(user, CubeSource::Known, one).await.map(drop),
        "ensure_cube" => mos.ensure_cube(user, cube).await.map(drop),
        "skill_archive" => match mos.skill_archive(user, one, id).await {
            // Past the rights: the memory of these cubes is none.
            Err(Error::Invalid(text)) if text.contains("is no skill") => Ok(()),
            archive => archive.map(drop),
        },
        "view.get_all" => mos.view(user, [cube.clone()]).await?.get_all().await.map(drop),
        "view.search" => mos.view(user, [cube.clone()]).await?.search(Search::new("tea")).await.map(drop),
        "view.chat" => {
            let reply = mos.view(user, [cube.clone()]).await?.chat(Chat::new("What do I drink?")).await?;
            reply.complete().await.map(drop)
        }
        other => panic!("{other} is not tried"),
    }
}

async fn write(operation: &str, case: &Case<'_>) -> mos::Result<()> {
    let Case { mos, folder, user, cube, id } = case;
    let (one, dump) = (Some(cube), folder.join("dumped"));
    match operation {
        "cube" => mos.cube(user, cube).await.map(drop),
        "add" => mos.add(Add::text("I have a dog").user(user.clone()).cube(cube.clone())).await.map(drop),
        "remember" => mos.remember(case.remember()).await.map(drop),
        "add_skills" => mos.add_skills(user, one, "forms.zip", crate::skills::one_skill()).await.map(drop),
        "chat.remember" => answered(mos, case.chat("My sister lives in Oslo").remember(true)).await,
        "update" => {
            let mut item = mos.get(&ann(), one, id).await?;
            item.memory = "I drink water".to_owned();
            mos.update(user, one, id, item).await.map(drop)
        }
        "undo" => mos.undo(user, one, id).await.map(drop),
        "delete" => mos.delete(user, one, id).await,
        "delete_all" => mos.delete_all(user, one).await.map(drop),
        "load" => mos.load(user, one, &dump).await.map(drop),
        "load_memories" => mos.load_memories(user, one, &dump, &[MemoryKind::Text]).await.map(drop),
        "organize" => {
            let organize = Organize::new().user(user.clone()).cube(cube.clone());
            mos.organize(organize.model(OrganizeModel::Without)).await.map(drop)
        }
        "learn_preferences" => {
            match mos.learn_preferences(user, one, None, &[Message::user("I always drink tea")]).await {
                // Past the rights: these cubes have none.
                Err(Error::Invalid(text)) if text.contains("no preference memory") => Ok(()),
                learned => learned.map(drop),
            }
        }
        // No handler takes it here: what is left are the rights.
        "feedback" => {
            let request = FeedbackRequest::new("once", user.clone(), "I drink water");
            mos.feedback_later(cube, &request, None).await.map(drop)
        }
        "view.add" => {
            for written in mos.view(user, [cube.clone()]).await?.add(Add::text("I have a dog")).await? {
                written.stored?;
            }
            Ok(())
        }
        "view.remember" => {
            for written in mos.view(user, [cube.clone()]).await?.remember(case.remember()).await? {
                written.stored?;
            }
            Ok(())
        }
        other => panic!("{other} is not tried"),
    }
}

async fn own(operation: &str, case: &Case<'_>) -> mos::Result<()> {
    let Case { mos, user, cube, .. } = case;
    let dave = UserId::from("dave");
    match operation {
        "share" => mos.share_cube_with(user, cube, &dave, Access::Reader).await,
        "cube_shares" => mos.cube_shares(user, cube).await.map(drop),
        "unshare" => mos.unshare_cube(user, cube, &dave).await,
        "unregister" => mos.unregister_mem_cube(user, cube).await,
        "reembed" => mos.reembed_cube(user, cube, false, |_| {}).await.map(drop),
        "delete_cube" => mos.delete_cube(user, cube).await,
        other => panic!("{other} is not tried"),
    }
}

fn outcome(operation: &str, result: mos::Result<()>) -> &'static str {
    match result {
        Ok(()) => "done",
        Err(Error::NoAccess { .. }) => "no access",
        Err(Error::NotWriter { .. }) => "not a writer",
        Err(Error::NotOwner { .. }) => "not the owner",
        Err(Error::NotAllowed { .. }) => "not allowed",
        Err(error) => panic!("{operation}: {error}"),
    }
}

fn expected(kind: Kind, who: &str) -> &'static str {
    match (who, kind) {
        ("stranger", _) => "no access",
        ("ann", _) | (_, Reads) | ("member", Writes) => "done",
        // Though the cube was shared with it as with a member.
        ("guest", Writes | Owns) => "not allowed",
        (_, Writes) => "not a writer",
        (_, Owns) => "not the owner",
    }
}

/// A cube of ann's, shared for reading with the reader and for writing with the member and the guest.
async fn shared_cube(mos: &Mos, name: &str) -> (CubeId, MemoryId) {
    let cube = CubeId::from(name);
    mos.create_cube(&ann(), NewCube::new(name)).await.unwrap();
    let id = mos.add(Add::text("I drink coffee").user("ann").cube(name)).await.unwrap().remove(0);
    let mut item = mos.get(&ann(), Some(&cube), &id).await.unwrap();
    item.memory = "I drink tea".to_owned();
    mos.update(&ann(), Some(&cube), &id, item).await.unwrap();
    for (user, access) in [("reader", Access::Reader), ("member", Access::Member), ("guest", Access::Member)] {
        mos.share_cube_with(&ann(), &cube, &user.into(), access).await.unwrap();
    }
    (cube, id)
}

/// All that an operation could change.
async fn state(mos: &Mos, cube: &CubeId) -> Value {
    let memories = mos.get_all(&ann(), Some(cube)).await.unwrap();
    json!([memories, mos.cube_shares(&ann(), cube).await.unwrap()])
}

#[tokio::test]
async fn every_operation_asks_for_its_right() {
    let server = ModelServer::start().await;
    let (folder, mos) = talking(&server).await;
    for user in ["ann", "member", "reader", "stranger", "dave"] {
        mos.create_user(user, None).await.unwrap();
    }
    mos.create_user_with_role("guest", None, UserRole::Guest).await.unwrap();
    let (source, _) = shared_cube(&mos, "source").await;
    mos.dump(&ann(), Some(&source), &folder.path().join("dumped")).await.unwrap();
    for (operation, kind) in OPERATIONS {
        for who in ["stranger", "guest", "reader", "member", "ann"] {
            let (cube, id) = shared_cube(&mos, &format!("{operation}-{who}")).await;
            let before = state(&mos, &cube).await;
            let case = Case { mos: &mos, folder: folder.path(), user: who.into(), cube, id };
            let result = match kind {
                Reads => read(operation, &case).await,
                Writes => write(operation, &case).await,
                Owns => own(operation, &case).await,
            };
            let got = outcome(operation, result);
            assert_eq!(got, expected(*kind, who), "{operation} by {who}");
            if *kind == Reads || got != "done" {
                assert_eq!(state(&mos, &case.cube).await, before, "{operation} by {who} has changed nothing");
            }
        }
    }
}

#[tokio::test]
async fn who_only_reads_is_told_whom_to_ask_for_what() {
    let (_folder, mos) = house().await;
    let notes = CubeId::from("notes");
    mos.share_cube_with(&ann(), &notes, &bob(), Access::Reader).await.unwrap();
    let error = mos.add(Add::text("x").user("bob").cube("notes")).await.unwrap_err().to_string();
    assert!(error.contains("'bob'") && error.contains("'notes'") && error.contains("ask its owner"), "{error}");
    mos.share_cube_with_user(&ann(), &notes, &bob()).await.unwrap();
    mos.add(Add::text("x").user("bob").cube("notes")).await.expect("sharing again changes the right");
    mos.share_cube_with(&ann(), &notes, &bob(), Access::Reader).await.unwrap();
    mos.add(Add::text("x").user("bob").cube("notes")).await.expect_err("and takes it away");
    let second = mos.share_cube_with(&ann(), &notes, &bob(), Access::Owner).await.unwrap_err();
    assert!(matches!(second, Error::Invalid(_)), "a cube has one owner: {second}");
    mos.unshare_cube(&bob(), &notes, &bob()).await.expect("who was given a cube may give it back");
    assert!(matches!(mos.get_all(&bob(), Some(&notes)).await, Err(Error::NoAccess { .. })));
}

#[tokio::test]
async fn the_owner_sees_who_may_do_what() {
    let (_folder, mos) = house().await;
    let notes = CubeId::from("notes");
    mos.create_user_with_role("gus", None, UserRole::Guest).await.unwrap();
    for user in ["gus", "bob"] {
        mos.share_cube_with_user(&ann(), &notes, &user.into()).await.unwrap();
    }
    let shares = json!(mos.cube_shares(&ann(), &notes).await.unwrap());
    let expected = json!([
        {"user_id": "ann", "access": "owner"},
        {"user_id": "bob", "access": "member"},
        {"user_id": "gus", "access": "reader"},
    ]);
    assert_eq!(shares, expected, "what they may do, not what they were given");
}

#[tokio::test]
async fn guests_have_no_cubes_and_what_they_had_they_only_read() {
    let (folder, mos) = house().await;
    let (root, notes) = (UserId::from("root"), CubeId::from("notes"));
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    let (dump, file) = (folder.path().join("dumped"), folder.path().join("exported.tar"));
    mos.dump(&ann(), None, &dump).await.unwrap();
    mos.export_cube(&ann(), None, &file).await.unwrap();
    let guest = mos.set_user_role(&root, &ann(), UserRole::Guest).await.unwrap();
    assert_eq!(guest.role, UserRole::Guest);
    let not_allowed = |error: Error| {
        assert!(matches!(error, Error::NotAllowed { .. }) && error.to_string().contains("GUEST"), "{error}");
    };
    let config = GeneralMemCubeConfig::new("ann", "more", MemoryConfig::none());
    let sources = [CubeSource::Directory(dump), CubeSource::Config(Box::new(config))];
    for source in sources {
        not_allowed(mos.register_mem_cube(&ann(), source, Some(&"more".into())).await.unwrap_err());
    }
    not_allowed(mos.create_cube(&ann(), NewCube::new("more")).await.unwrap_err());
    not_allowed(mos.import_cube(&ann(), &file, Some(&"more".into())).await.unwrap_err());
    not_allowed(mos.add(Add::text("a cat").user("ann")).await.unwrap_err());
    not_allowed(mos.delete_cube(&ann(), &notes).await.unwrap_err());
    assert_eq!(mos.get_all(&ann(), None).await.unwrap().text_mem[0].memories.len(), 1);
    assert_eq!(mos.search(Search::new("dog").user("ann")).await.unwrap().best().len(), 1);
    assert_eq!(mos.user_info(&ann()).await.unwrap().accessible_cubes[0].access, Access::Reader);
    mos.create_user_with_role("gus", None, UserRole::Guest).await.unwrap();
    not_allowed(mos.ensure_default_cube(&"gus".into()).await.unwrap_err());
    assert!(mos.search(Search::new("dog").user("gus")).await.unwrap().text_mem.is_empty());
    mos.set_user_role(&root, &ann(), UserRole::User).await.unwrap();
    mos.add(Add::text("a cat").user("ann")).await.expect("an ordinary user again");
    assert_eq!(mos.user_info(&ann()).await.unwrap().accessible_cubes[0].access, Access::Owner);
}

#[tokio::test]
async fn administrators_administer_ordinary_users_and_root_everybody() {
    let (_folder, mos) = house().await;
    let [root, ada, max, gus] = ["root", "ada", "max", "gus"].map(UserId::from);
    let not_allowed = |error: Error| assert!(matches!(error, Error::NotAllowed { .. }), "{error}");
    for admin in ["ada", "max"] {
        mos.create_user_as(&root, admin, None, UserRole::Admin).await.unwrap();
    }
    mos.create_user_as(&ada, "gus", Some("Gus"), UserRole::Guest).await.unwrap();
    mos.create_user_as(&ada, "uma", None, UserRole::User).await.unwrap();
    for role in [UserRole::Admin, UserRole::Root] {
        not_allowed(mos.create_user_as(&ada, "eve", None, role).await.unwrap_err());
        not_allowed(mos.set_user_role(&ada, &gus, role).await.unwrap_err());
    }
    for other in [&root, &max] {
        not_allowed(mos.set_user_role(&ada, other, UserRole::Guest).await.unwrap_err());
        not_allowed(mos.delete_user_as(&ada, other).await.unwrap_err());
    }
    for actor in [&bob(), &gus] {
        not_allowed(mos.create_user_as(actor, "eve", None, UserRole::User).await.unwrap_err());
        not_allowed(mos.set_user_role(actor, &ann(), UserRole::Guest).await.unwrap_err());
        not_allowed(mos.delete_user_as(actor, &ann()).await.unwrap_err());
        not_allowed(mos.delete_user_as(actor, &"nobody".into()).await.unwrap_err());
        not_allowed(mos.list_users_as(actor).await.unwrap_err());
    }
    assert_eq!(mos.set_user_role(&ada, &gus, UserRole::User).await.unwrap().role, UserRole::User);
    for role in [UserRole::Root, UserRole::User] {
        let target = if role == UserRole::Root { &gus } else { &root };
        let error = mos.set_user_role(&root, target, role).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "there is one root, always: {error}");
    }
    mos.delete_user_as(&ada, &"uma".into()).await.unwrap();
    mos.delete_user_as(&gus, &gus).await.expect("everybody may go");
    mos.delete_user_as(&root, &max).await.unwrap();
    mos.delete_user_as(&root, &root).await.expect_err("but root");
    not_allowed(mos.create_user_as(&ada, "max", None, UserRole::User).await.unwrap_err());
    not_allowed(mos.erase_user_as(&ada, &max, EraseOptions::default()).await.unwrap_err());
    assert!(!mos.has_user(&max).await.unwrap(), "a deleted administrator comes back by ROOT alone");
    let users: Vec<String> =
        mos.list_users_as(&ada).await.unwrap().iter().map(|user| user.user_id.to_string()).collect();
    assert_eq!(users, ["root", "ann", "bob", "ada"]);
    let gone = mos.list_users_as(&max).await.unwrap_err();
    assert!(matches!(gone, Error::UnknownUser(_)), "who was deleted may nothing: {gone}");
    mos.create_user_as(&ada, "uma", None, UserRole::User).await.expect("who was an ordinary user");
    mos.create_user_as(&root, "max", None, UserRole::User).await.expect("root brings everybody back");
}

#[tokio::test]
async fn the_info_of_a_user_has_memos_shape() {
    let (_folder, mos) = house().await;
    mos.share_cube_with(&ann(), &"notes".into(), &bob(), Access::Reader).await.unwrap();
    mos.create_cube(&bob(), NewCube { name: Some("Bob's".to_owned()), ..NewCube::new("own") }).await.unwrap();
    mos.unregister_mem_cube(&bob(), &"own".into()).await.unwrap();
    let mut info = json!(mos.user_info(&bob()).await.unwrap());
    assert!(info["created_at"].take().as_str().unwrap().contains('T'));
    let expected = json!({
        "user_id": "bob", "user_name": "bob", "role": "USER", "created_at": null,
        "accessible_cubes": [
            {"cube_id": "own", "cube_name": "Bob's", "cube_path": null, "owner_id": "bob", "is_loaded": false,
             "access": "owner"},
            {"cube_id": "notes", "cube_name": "notes", "cube_path": null, "owner_id": "ann", "is_loaded": true,
             "access": "reader"},
        ],
    });
    assert_eq!(info, expected);
    assert!(matches!(mos.user_info(&"nobody".into()).await, Err(Error::UnknownUser(_))));
}

#[tokio::test]
async fn a_shared_cube_of_the_usual_name_is_not_the_default_one() {
    let (_folder, mos) = house().await;
    let usual = CubeId::from("cube_bob");
    mos.create_cube(&ann(), NewCube::new("cube_bob")).await.unwrap();
    mos.share_cube_with_user(&ann(), &usual, &bob()).await.unwrap();
    let own = mos.ensure_default_cube(&bob()).await.unwrap();
    assert_ne!(own, usual);
    assert_eq!(mos.ensure_default_cube(&bob()).await.unwrap(), own, "the second time it is known");
    mos.add(Add::text("private").user("bob")).await.unwrap();
    assert!(mos.get_all(&ann(), Some(&usual)).await.unwrap().text_mem[0].memories.is_empty());
}
