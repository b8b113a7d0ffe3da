//! Whether everything that was acknowledged is stored.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::Failure;
use crate::client::Client;
use crate::load::{Acknowledged, user};
use crate::serving::Serving;

/// Memories on a page of a listing.
const PAGE: usize = 1_000;

/// Returns the markers of those additions that no listing of their cubes holds, under the id that was told.
pub(crate) async fn lost(
    server: &Serving,
    acknowledged: &[Acknowledged],
    n_users: usize,
) -> Result<Vec<String>, Failure> {
    let mut client = Client::connect(server).await?;
    let mut lost = Vec::new();
    for number in 0..n_users {
        let listed = listed(&mut client, &user(number)).await?;
        let is_there = |one: &&Acknowledged| listed.get(&one.id).is_some_and(|text| text.contains(&one.marker));
        let of_user = acknowledged.iter().filter(|one| one.user == number);
        lost.extend(of_user.filter(|one| !is_there(one)).map(|one| one.marker.clone()));
    }
    Ok(lost)
}

/// Returns the memories of a cube, texts by ids.
async fn listed(client: &mut Client, cube: &str) -> Result<HashMap<String, String>, Failure> {
    let (mut listed, mut page) = (HashMap::new(), 1);
    loop {
        let request = json!({"mem_cube_id": cube, "page": page, "page_size": PAGE});
        let answer = client.ask("/product/get_memory", &request).await?;
        let memories = answer["data"]["text_mem"][0]["memories"].as_array().ok_or("a listing has no memories")?;
        let text = |memory: &Value, field: &str| memory[field].as_str().unwrap_or_default().to_owned();
        listed.extend(memories.iter().map(|memory| (text(memory, "id"), text(memory, "memory"))));
        if memories.len() < PAGE {
            return Ok(listed);
        }
        page += 1;
    }
}
