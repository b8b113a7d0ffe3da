//! Keys of several tenants behind one address.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use mos::{Mos, Settings};
use mos_testkit::embedder::WordEmbedder;

use super::{Auth, KeyUsed};

#[tokio::test]
async fn a_good_key_gets_in_within_a_second_when_others_of_its_address_send_bad_ones() {
    let folder = tempfile::tempdir().unwrap();
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let mos = Mos::builder(Settings::default()).data_dir(folder.path()).embedder(embedder).build().await.unwrap();
    let good = mos.first_key().await.unwrap().unwrap();
    let (auth, address) = (Auth::new(None), IpAddr::V4(Ipv4Addr::LOCALHOST));
    for number in 0..20 {
        let bad = format!("mk_{number:064x}");
        assert_eq!(auth.holder(&mos, &bad, address).await.unwrap_err().error().status, 401);
    }
    // The clock stands still only where the store is not asked: its work is not seen by the clock.
    tokio::time::pause();
    assert_eq!(auth.holder(&mos, good.text.expose(), address).await.unwrap_err().error().status, 429);
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    let (_, used) = auth.holder(&mos, good.text.expose(), address).await.unwrap();
    assert_eq!(used, KeyUsed::Key(good.key.id));
}
