//! `mos cube unshare`.

use mos::Mos;
use mos_core::{CubeId, UserId};
use serde_json::json;

use crate::context::Context;

/// Takes the right of a user to a cube back.
pub(super) async fn unshare(context: &Context, mos: &Mos, id: &str, from: &str) -> anyhow::Result<()> {
    let (cube, target) = (CubeId::parse(id)?, UserId::parse(from)?);
    mos.unshare_cube(&context.user, &cube, &target).await?;
    let told = json!({"unshared": id, "from": from});
    context.output.value(&told, |_| format!("`{from}` may no longer use `{id}`"))
}
