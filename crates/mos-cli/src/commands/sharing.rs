//! `mos cube unshare`.

use mos::Mos;
use mos_core::{CubeId, UserId};
use serde_json::json;

use crate::context::Context;

/// Takes the right of a user to a cube back.
pub(super) async fn unshare(context: &Context, mos: &Mos, id: &str, from: &str) -> anyhow::Result<()> {
    let (cube, target) = (CubeId::parse(id)?, UserId::parse(from)?);
    // Of a misspelt name nobody may believe that its right is gone. Who gives a right back sees no list of the others'.
    if target != context.user {
        let shares = mos.cube_shares(&context.user, &cube).await?;
        anyhow::ensure!(
            shares.iter().any(|share| share.user_id == target),
            "`{from}` has no right to `{id}` that could be taken back; `mos cube shares {id}` prints who has one"
        );
    }
    mos.unshare_cube(&context.user, &cube, &target).await?;
    let told = json!({"unshared": id, "from": from});
    context.output.value(&told, |_| format!("`{from}` may no longer use `{id}`"))
}
