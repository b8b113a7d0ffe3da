//! How fast many memories are written.

use std::time::{Duration, Instant};

use mos_core::{Edge, GraphStore, MemoryId, MemoryItem, RecordStore, WriteBatch};
use neo4rs::{Graph, Query};

use super::record::{batch, item, scope};
use super::server::Neo4jServer;

const N: usize = 10_000;
/// So many are written one by one; the rest would take as long each.
const N_SINGLE: usize = 250;

fn memory(number: usize) -> MemoryItem {
    item(&format!("{number}"), &format!("memory number {number} about a dog in the park"))
}

fn edge(number: usize) -> Edge {
    Edge {
        source: MemoryId::new(format!("{number}")),
        target: MemoryId::new(format!("{}", number / 2)),
        kind: "PARENT".to_owned(),
    }
}

/// Writes a memory and its edge with a statement each, as MemOS' import does.
async fn write_as_memos(graph: &Graph, label: &str, tenant: &str, number: usize) {
    let texts = [
        format!("MERGE (n:{label} {{user_name: $tenant, id: $id}}) SET n.memory = $memory, n.status = 'activated'"),
        format!(
            "MATCH (a:{label} {{user_name: $tenant, id: $id}}) MATCH (b:{label} {{user_name: $tenant, id: $other}})
             MERGE (a)-[:PARENT]->(b)"
        ),
    ];
    for text in texts {
        let statement = Query::new(text)
            .param("tenant", tenant)
            .param("id", format!("{number}"))
            .param("other", format!("{}", number / 2))
            .param("memory", memory(number).memory);
        graph.run(statement).await.unwrap();
    }
}

async fn timed(n: usize, work: impl AsyncFn(usize)) -> Duration {
    let begun = Instant::now();
    for number in 0..n {
        work(number).await;
    }
    begun.elapsed() * u32::try_from(N / n).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout, reason = "it is what the test is for")]
async fn a_batch_is_much_faster_than_single_writes() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, graph) = (server.store().await, server.graph());
    store.apply(&scope("warm"), batch((0..100).map(memory).collect())).await.unwrap();
    let put_edges: Vec<Edge> = (1..N).map(edge).collect();
    let write = WriteBatch { put_edges, ..batch((0..N).map(memory).collect()) };
    let begun = Instant::now();
    store.apply(&scope("batch"), write).await.unwrap();
    let together = begun.elapsed();
    assert_eq!(store.all_edges(&scope("batch")).await.unwrap().len(), N - 1);

    let single = timed(N_SINGLE, async |number| {
        let write = WriteBatch { put_edges: vec![edge(number)], ..batch(vec![memory(number)]) };
        store.apply(&scope("single"), write).await.unwrap();
    })
    .await;
    let indexed = timed(N_SINGLE, async |number| {
        write_as_memos(&graph, "Memory", &server.tenant(&scope("indexed")), number).await;
    })
    .await;
    // MemOS has no index of ids. Half of the memories are there: so many are, on average.
    let tenant = server.tenant(&scope("unindexed"));
    let half = "UNWIND range(1, $n) AS number
                CREATE (:MosTestMemory {user_name: $tenant, id: 'other ' + toString(number)})";
    let half = Query::new(half.to_owned()).param("n", (N / 2) as i64).param("tenant", tenant.as_str());
    graph.run(half).await.unwrap();
    let unindexed =
        timed(N_SINGLE, async |number| write_as_memos(&graph, "MosTestMemory", &tenant, number).await).await;
    let line = |what: &str, time: Duration| {
        let times = time.as_secs_f64() / together.as_secs_f64();
        println!("{what}: {:.1} s, {times:.1} times as long", time.as_secs_f64());
    };
    line("10,000 memories with edges in one batch", together);
    line("one write each", single);
    line("one statement each, with an index of ids", indexed);
    line("one statement each, without one, as MemOS", unindexed);
}
