//! `mos user ...`

use anyhow::Context as _;
use mos_core::{User, UserId, UserRole};

use crate::arguments::UserCommand;
use crate::context::Context;

pub(super) async fn run(context: &Context, command: UserCommand) -> anyhow::Result<()> {
    let mos = context.open().await?;
    match command {
        UserCommand::Create { id, name, role } => {
            let role = UserRole::parse(&role)
                .filter(|role| *role != UserRole::Root)
                .with_context(|| format!("`{role}` is no role; use admin, user or guest"))?;
            let user = mos.create_user_with_role(UserId::parse(id)?, name.as_deref(), role).await?;
            context.output.value(&user, describe)
        }
        UserCommand::List => {
            let users = mos.list_users().await?;
            context.output.value(&users, |users| users.iter().map(describe).collect::<Vec<_>>().join("\n"))
        }
        UserCommand::Delete { id } => {
            mos.delete_user(&UserId::parse(id.as_str())?).await?;
            context.output.value(&serde_json::json!({"deleted": id}), |_| format!("deleted user `{id}`"))
        }
    }
}

fn describe(user: &User) -> String {
    format!("{}\t{}\t{}\t{}", user.user_id, user.user_name, user.role.as_str(), user.created_at)
}
