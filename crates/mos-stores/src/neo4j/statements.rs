//! Every Cypher text of this store. Nothing that a caller sends becomes part of one: values, names of fields and types of
//! edges are parameters.
//!
//! Invariant: each finds its nodes by an index, never by looking at all nodes of a label; a test asks the server's planner
//! about every one of them (`ALL`).

use neo4rs::Query;

/// What a memory is read from: an [`ItemRow`](super::layout::ItemRow).
macro_rules! item {
    () => {
        "{id: n.id, memory: coalesce(n.memory, ''), metadata: n.mos_metadata,
          sources: CASE WHEN n.mos_metadata IS NOT NULL THEN n.sources END,
          history: CASE WHEN n.mos_metadata IS NOT NULL THEN n.history END,
          foreign: CASE WHEN n.mos_metadata IS NULL THEN n{.*, created_at: toStringOrNull(n.created_at),
                        updated_at: toStringOrNull(n.updated_at), embedding: null} END} AS item"
    };
}

/// The vector of `n` in the space of the scope `s`; null without one.
macro_rules! vector {
    () => {
        "CASE WHEN n.mos_space = s.space THEN n.embedding WHEN n.mos_aside_space = s.space THEN n.mos_aside END"
    };
}

/// The order of the first write. What MemOS wrote comes first.
macro_rules! in_order {
    () => {
        "ORDER BY coalesce(n.mos_order, -1), toStringOrNull(n.created_at), n.id"
    };
}

/// Where a memory is in the orders of lists, and the memory.
macro_rules! placed {
    () => {
        concat!("coalesce(n.mos_made_at, '') AS made_at, coalesce(n.mos_order, -1) AS place, ", item!())
    };
}

/// Whether the listed fields of `n` are among those that are wanted, and what else the server compares holds.
macro_rules! is_wanted {
    () => {
        "CASE WHEN $listed IS NULL THEN true ELSE n.mos_listed IN $listed END
               AND all(pair IN $necessary WHERE n[pair.field] = pair.value)"
    };
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)+) => {
        $($(#[$doc])* pub(super) const $name: &str = $text;)+
        /// Every statement and its name.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}

/// Returns a statement to run. Only texts that are part of the program are taken.
pub(super) fn query(text: &'static str) -> Query {
    Query::new(text.to_owned())
}

statements! {
    // Reading memories.

    NODES = concat!(
        "UNWIND $ids AS id MATCH (n:Memory {user_name: $tenant, id: id}) USING INDEX SEEK n:Memory(user_name, id) RETURN ", item!());
    LIST = concat!(
        "MATCH (n:Memory {user_name: $tenant}) WHERE all(pair IN $necessary WHERE n[pair.field] = pair.value)
         WITH n ", in_order!(), " SKIP $offset LIMIT $limit RETURN ", item!());
    COUNT = "MATCH (n:Memory {user_name: $tenant}) RETURN count(n) AS count";

    // Pages. The tenant stands in the order, too: without it the server does not see that the index has this order, and
    // sorts all of the tenant's memories. `CASE` stands where `OR` could: of that, the server makes a union when there are few
    // memories, and sorts it.

    LISTED = "MATCH (n:Memory {user_name: $tenant}) RETURN n.mos_listed AS listed, count(*) AS count LIMIT $limit";
    OLDEST = concat!(
        "MATCH (n:Memory) USING INDEX SEEK n:Memory(user_name, mos_order)
         WHERE n.user_name = $tenant AND n.mos_order > $after AND ", is_wanted!(), "
         WITH n ORDER BY n.user_name, n.mos_order SKIP $offset LIMIT $limit RETURN ", placed!());
    LATEST = concat!(
        "MATCH (n:Memory) USING INDEX SEEK n:Memory(user_name, mos_order)
         WHERE n.user_name = $tenant AND n.mos_order < $before AND ", is_wanted!(), "
         WITH n ORDER BY n.user_name DESC, n.mos_order DESC SKIP $offset LIMIT $limit RETURN ", placed!());
    NEWEST = concat!(
        "MATCH (n:Memory) USING INDEX SEEK n:Memory(user_name, mos_made_at)
         WHERE n.user_name = $tenant AND n.mos_made_at <= $made_at
               AND CASE n.mos_made_at WHEN $made_at THEN n.id < $id ELSE true END AND ", is_wanted!(), "
         WITH n ORDER BY n.user_name DESC, n.mos_made_at DESC, n.id DESC SKIP $offset LIMIT $limit RETURN ", placed!());
    NEWEST_IDS = "MATCH (n:Memory) USING INDEX SEEK n:Memory(user_name, mos_made_at)
         WHERE n.user_name = $tenant AND n.mos_made_at <= $made_at
               AND CASE n.mos_made_at WHEN $made_at THEN n.id < $id ELSE true END
               AND CASE WHEN $listed IS NULL THEN true ELSE n.mos_listed IN $listed END
         WITH n ORDER BY n.user_name DESC, n.mos_made_at DESC, n.id DESC LIMIT $limit
         RETURN n.mos_made_at AS made_at, n.id AS id";
    KEPT_APART = concat!(
        "MATCH (n:Memory) USING INDEX SEEK n:Memory(user_name, mos_is_apart)
         WHERE n.user_name = $tenant AND n.mos_is_apart = true AND n.mos_order > $after
         WITH n ORDER BY n.mos_order LIMIT $limit RETURN ", placed!());

    // Edges.

    EDGES = "UNWIND $ids AS id
         MATCH (n:Memory {user_name: $tenant, id: id}) USING INDEX SEEK n:Memory(user_name, id)
         MATCH (n)-[edge]-(other:Memory)
         WHERE other.user_name = $tenant AND ($kind IS NULL OR type(edge) = $kind)
         RETURN DISTINCT startNode(edge).id AS source, endNode(edge).id AS target, type(edge) AS kind";
    EDGES_FROM = "UNWIND $ids AS id
         MATCH (n:Memory {user_name: $tenant, id: id}) USING INDEX SEEK n:Memory(user_name, id)
         MATCH (n)-[edge]->(other:Memory)
         WHERE other.user_name = $tenant
         RETURN DISTINCT n.id AS source, other.id AS target, type(edge) AS kind";
    ALL_EDGES = "MATCH (n:Memory {user_name: $tenant})-[edge]->(other:Memory)
         USING INDEX SEEK n:Memory(user_name)
         WHERE other.user_name = $tenant AND ($kind IS NULL OR type(edge) = $kind)
         RETURN DISTINCT n.id AS source, other.id AS target, type(edge) AS kind";
    /// A list in `tags` is what is asked for; another program may have put something else there.
    TAGGED = "MATCH (n:Memory {user_name: $tenant})
         WHERE all(pair IN $necessary WHERE n[pair.field] = pair.value) AND NOT n.id IN $ids
         WITH n, CASE WHEN n.tags IS :: LIST<ANY> THEN n.tags ELSE [] END AS own
         WITH n, size([tag IN $tags WHERE tag IN own]) AS n_shared WHERE n_shared >= $least
         RETURN n.id AS id, n_shared";
    HISTORY = "MATCH (v:MosVersion {tenant: $tenant, id: $id})
         RETURN v.number AS number, v.actor AS actor, v.reason AS reason, v.message_id AS message_id, v.at AS at,
                v.id AS id, v.memory AS memory, v.metadata AS metadata, v.sources AS sources, v.edges AS edges";
    /// The rest of a memory's versions.
    REST_OF_VERSIONS = "MATCH (v:MosVersion {tenant: $tenant, id: $id}) WHERE v.number > $number
         RETURN v.number AS number, v.actor AS actor, v.reason AS reason, v.message_id AS message_id, v.at AS at,
                v.id AS id, v.memory AS memory, v.metadata AS metadata, v.sources AS sources, v.edges AS edges
         ORDER BY v.number LIMIT $limit";
    VERSIONS_AFTER = "MATCH (v:MosVersion) WHERE v.tenant = $tenant AND v.id > $id
         WITH v ORDER BY v.id, v.number LIMIT $limit
         RETURN v.number AS number, v.actor AS actor, v.reason AS reason, v.message_id AS message_id, v.at AS at,
                v.id AS id, v.memory AS memory, v.metadata AS metadata, v.sources AS sources, v.edges AS edges";
    ARCHIVED = concat!(
        "MATCH (n:Memory) USING INDEX SEEK n:Memory(user_name, mos_order)
         WHERE n.user_name = $tenant AND n.mos_order > $after WITH n ORDER BY n.mos_order LIMIT $limit
         RETURN n.mos_order AS order, n.mos_number AS number, n.mos_actor AS actor, n.mos_reason AS reason,
                n.mos_message_id AS message_id, n.mos_at AS at, ", item!());
    ARCHIVED_OF = concat!(
        "UNWIND $ids AS id MATCH (n:Memory {user_name: $tenant, id: id}) USING INDEX SEEK n:Memory(user_name, id)
         RETURN n.mos_order AS order, n.mos_number AS number, n.mos_actor AS actor, n.mos_reason AS reason,
                n.mos_message_id AS message_id, n.mos_at AS at, ", item!());
    ARCHIVED_RECEIPTS = "MATCH (r:MosReceipt) WHERE r.tenant = $tenant AND r.number > $after
         WITH r ORDER BY r.number LIMIT $limit
         RETURN r.number AS order, r.key AS key, r.receipt AS receipt, r.at_s AS at_s";
    PRESENT = concat!(
        "MATCH (n:Memory {user_name: $tenant, id: $id}) USING INDEX SEEK n:Memory(user_name, id)
         RETURN coalesce(n.mos_number, 1) AS number, coalesce(n.mos_actor, '') AS actor,
                coalesce(n.mos_reason, '') AS reason, n.mos_message_id AS message_id,
                coalesce(n.mos_at, toStringOrNull(n.updated_at), '') AS at, ", item!());

    // Reading the feed and vectors.

    SCOPE = "MATCH (s:MosScope {tenant: $tenant})
         RETURN s.sequence AS sequence, s.next_order AS next_order, s.n_documents AS n_documents, s.n_terms AS n_terms,
                s.space AS space, s.is_closed AS is_closed, s.n_receipts AS n_receipts, coalesce(s.n_jobs, 0) AS n_jobs,
                s.generation AS generation";
    /// Nobody writes to the scope until the end of the transaction; what was written is seen whole. Nothing is changed:
    /// the property has the same value always. (Removing a property, or setting it to null, takes no lock while no node of
    /// the database has had one of that name.)
    HOLD_SCOPE = "MATCH (s:MosScope {tenant: $tenant}) SET s.tenant = s.tenant";
    PUTS = concat!(
        "MATCH (s:MosScope {tenant: $tenant})
         MATCH (n:Memory) USING INDEX SEEK n:Memory(user_name, mos_sequence)
         WHERE n.user_name = $tenant AND n.mos_sequence > $after
         WITH s, n ORDER BY n.mos_sequence LIMIT $limit
         RETURN n.mos_sequence AS sequence, n.mos_order AS arrival, ", vector!(), " AS vector, ", item!());
    TOMBSTONES = "MATCH (t:MosTombstone) WHERE t.tenant = $tenant AND t.sequence > $after
         RETURN t.sequence AS sequence, t.id AS id ORDER BY t.sequence LIMIT $limit";
    EMBEDDINGS = concat!(
        "MATCH (s:MosScope {tenant: $tenant}) UNWIND $ids AS id MATCH (n:Memory {user_name: $tenant, id: id}) USING INDEX SEEK n:Memory(user_name, id)
         WITH n, ", vector!(), " AS vector WHERE vector IS NOT NULL RETURN n.id AS id, vector");
    WITHOUT_EMBEDDING = concat!(
        "MATCH (n:Memory {user_name: $tenant})
         WHERE coalesce(n.mos_space <> $space, true) AND coalesce(n.mos_aside_space <> $space, true)
         WITH n ", in_order!(), " LIMIT $limit RETURN ", item!());
    NEAREST = concat!(
        "MATCH (s:MosScope {tenant: $tenant}) MATCH (n:Memory {user_name: $tenant})
         WHERE s.space = $space AND all(pair IN $necessary WHERE n[pair.field] = pair.value)
         WITH n, ", vector!(), " AS vector WHERE vector IS NOT NULL
         RETURN n.id AS id, 2 * vector.similarity.cosine(vector, $vector) - 1 AS score
         ORDER BY score DESC, id LIMIT $limit");
    COUNT_VECTORS = concat!(
        "MATCH (s:MosScope {tenant: $tenant}) MATCH (n:Memory {user_name: $tenant})
         WITH ", vector!(), " AS vector WHERE vector IS NOT NULL RETURN count(*) AS count");
    FULL_TEXT = "CALL db.index.fulltext.queryNodes('mos_memory_terms', $query) YIELD node AS n
         WHERE n.user_name = $tenant
         RETURN n.id AS id, n.mos_n_terms AS n_terms,
                [token IN $tokens | size(split(n.mos_terms, token)) - 1] AS frequencies";

    // Writing: what is there.

    /// Of several writers of one scope the others wait here until the first is through.
    LOCK_SCOPE = "MERGE (s:MosScope {tenant: $tenant})
         ON CREATE SET s.sequence = 0, s.next_order = 0, s.n_documents = 0, s.n_terms = 0, s.n_receipts = 0,
                       s.is_closed = false, s.generation = 0
         SET s.written_at = $at";
    RECEIPT = "MATCH (r:MosReceipt {tenant: $tenant, key: $key}) RETURN r.receipt AS receipt";
    KNOWN = "UNWIND $ids AS id MATCH (n:Memory {user_name: $tenant, id: id}) USING INDEX SEEK n:Memory(user_name, id)
         RETURN n.id AS id, n.memory AS memory, n.mos_number AS number, n.mos_n_terms AS n_terms, n.mos_order AS order,
                n.mos_sequence AS sequence";
    ALL_KNOWN = "MATCH (n:Memory {user_name: $tenant})
         RETURN n.id AS id, n.memory AS memory, n.mos_number AS number, n.mos_n_terms AS n_terms, n.mos_order AS order,
                n.mos_sequence AS sequence ORDER BY n.mos_order";
    GONE = "UNWIND $ids AS id MATCH (t:MosTombstone {tenant: $tenant, id: id}) RETURN t.id AS id, t.number AS number";
    FOREIGN = concat!(
        "MATCH (n:Memory {user_name: $tenant}) WHERE n.mos_metadata IS NULL WITH n ", in_order!(), " RETURN ", item!());
    /// Those that an older program wrote do not say yet what lists are answered from.
    UNLISTED = concat!(
        "MATCH (n:Memory {user_name: $tenant}) WHERE n.mos_metadata IS NOT NULL AND n.mos_listed IS NULL
         WITH n LIMIT $limit RETURN ", item!());
    IS_FOREIGN = "MATCH (n:Memory {user_name: $tenant}) WHERE n.mos_metadata IS NULL RETURN true AS is_lacking LIMIT 1";
    IS_UNFILLED = "MATCH (n:Memory {user_name: $tenant}) WHERE n.mos_metadata IS NULL OR n.mos_listed IS NULL
         RETURN true AS is_lacking LIMIT 1";

    // Writing: changes.

    ADOPT = "UNWIND $rows AS row MATCH (n:Memory {user_name: $tenant, id: row.id}) USING INDEX SEEK n:Memory(user_name, id) SET n += row.properties";
    ARCHIVE = "UNWIND $ids AS id MATCH (n:Memory {user_name: $tenant, id: id}) USING INDEX SEEK n:Memory(user_name, id)
         CREATE (v:MosVersion {tenant: $tenant, id: n.id, number: n.mos_number, at: n.mos_at, actor: n.mos_actor,
                               reason: n.mos_reason, message_id: n.mos_message_id, memory: n.memory,
                               metadata: n.mos_metadata, sources: n.sources})";
    ADD_VERSIONS = "UNWIND $rows AS row CREATE (v:MosVersion) SET v = row";
    PUT_VERSIONS = "UNWIND $rows AS row MERGE (v:MosVersion {tenant: $tenant, id: row.id, number: row.number}) SET v = row";
    DROP_VERSIONS = "UNWIND $rows AS row MATCH (v:MosVersion {tenant: $tenant, id: row.id}) WHERE v.number >= row.number
         DELETE v";
    PUT_RECEIPTS = "UNWIND $rows AS row MERGE (r:MosReceipt {tenant: $tenant, key: row.key})
         ON CREATE SET r.receipt = row.receipt, r.number = row.number, r.at_s = row.at_s";
    DELETE = "UNWIND $ids AS id MATCH (n:Memory {user_name: $tenant, id: id}) USING INDEX SEEK n:Memory(user_name, id) DETACH DELETE n";
    ADD_TOMBSTONES = "UNWIND $rows AS row MERGE (t:MosTombstone {tenant: $tenant, id: row.id})
         SET t.sequence = row.sequence, t.number = row.number";
    REMOVE_TOMBSTONES = "UNWIND $ids AS id MATCH (t:MosTombstone {tenant: $tenant, id: id}) DELETE t";
    INSERT = "UNWIND $rows AS row CREATE (n:Memory) SET n = row.properties
         SET n.created_at = coalesce(datetime(row.created_at), n.created_at),
             n.updated_at = coalesce(datetime(row.updated_at), n.updated_at)";
    REPLACE = "UNWIND $rows AS row MATCH (n:Memory {user_name: $tenant, id: row.id}) USING INDEX SEEK n:Memory(user_name, id)
         WITH n, row, CASE WHEN row.keeps_vectors
              THEN n{.embedding, .mos_space, .mos_aside, .mos_aside_space} ELSE {} END AS vectors
         SET n = row.properties SET n += vectors
         SET n.created_at = coalesce(datetime(row.created_at), n.created_at),
             n.updated_at = coalesce(datetime(row.updated_at), n.updated_at)";
    /// Of these edges those that are there. A type that is only known when the statement runs makes `MERGE` look at every
    /// relationship of the database; therefore the missing ones are made by a statement of their own.
    KNOWN_EDGES = "UNWIND $rows AS row
         MATCH (a:Memory {user_name: $tenant, id: row.source}) USING INDEX SEEK a:Memory(user_name, id)
         MATCH (a)-[edge]->(b:Memory)
         WHERE b.user_name = $tenant AND b.id = row.target AND type(edge) = row.kind
         RETURN DISTINCT row.source AS source, row.target AS target, row.kind AS kind";
    REMOVE_EDGES = "UNWIND $rows AS row
         MATCH (a:Memory {user_name: $tenant, id: row.source}) USING INDEX SEEK a:Memory(user_name, id)
         MATCH (a)-[edge]->(b:Memory)
         WHERE b.user_name = $tenant AND b.id = row.target AND type(edge) = row.kind
         DELETE edge";
    ADD_EDGES = "UNWIND $rows AS row
         MATCH (a:Memory {user_name: $tenant, id: row.source}) USING INDEX SEEK a:Memory(user_name, id)
         MATCH (b:Memory {user_name: $tenant, id: row.target}) USING INDEX SEEK b:Memory(user_name, id)
         CREATE (a)-[:$(row.kind)]->(b)";
    EMBED = "UNWIND $rows AS row MATCH (n:Memory {user_name: $tenant, id: row.id}) USING INDEX SEEK n:Memory(user_name, id)
         SET n.embedding = row.vector, n.mos_space = $space, n.mos_sequence = row.sequence";
    EMBED_ASIDE = "UNWIND $rows AS row MATCH (n:Memory {user_name: $tenant, id: row.id}) USING INDEX SEEK n:Memory(user_name, id)
         SET n.mos_aside = row.vector, n.mos_aside_space = $space";
    WRITE_SCOPE = "MATCH (s:MosScope {tenant: $tenant}) SET s += $properties";
    ADD_RECEIPT = "CREATE (r:MosReceipt {tenant: $tenant, key: $key, receipt: $receipt, number: $number, at_s: $at_s})";
    PRUNE_RECEIPTS = "MATCH (r:MosReceipt) WHERE r.tenant = $tenant AND r.number > 0
         AND (r.number <= $number OR r.at_s < $at_s) DELETE r";

    // Jobs on their way to the queue.

    ADD_OUTBOX = "MERGE (o:MosOutbox {tenant: $tenant})";
    ADD_JOBS = "UNWIND $rows AS row CREATE (j:MosJob {tenant: $tenant}) SET j += row";
    COUNT_JOBS = "MATCH (j:MosJob) WHERE j.tenant = $tenant AND j.number > 0 RETURN count(j) AS count";
    /// Of several that bring jobs of one cube to the queue the others wait here until the first is through.
    HOLD_OUTBOX = "MATCH (o:MosOutbox {tenant: $tenant}) SET o.n_held = coalesce(o.n_held, 0) + 1";
    UNDELIVERED = "MATCH (j:MosJob) WHERE j.tenant = $tenant AND j.number > $after WITH j ORDER BY j.number LIMIT $limit
         RETURN j.number AS number, j.id AS id, j.kind AS kind, j.payload AS payload, j.in_group AS group,
                j.priority AS priority, j.not_before_ms AS not_before_ms, j.max_attempts AS max_attempts";
    DELIVERED = "MATCH (j:MosJob) WHERE j.tenant = $tenant AND j.number > 0 AND j.number <= $number DELETE j";
    WITH_JOBS = "MATCH (j:MosJob) WHERE j.prefix = $prefix RETURN DISTINCT j.tenant AS tenant LIMIT $limit";
    FORGET_JOBS = "MATCH (j:MosJob) WHERE j.tenant = $tenant AND j.number > 0 DELETE j";

    // Writing: another embedding model.

    COUNT_LEFT = concat!(
        "MATCH (s:MosScope {tenant: $tenant}) MATCH (n:Memory {user_name: $tenant})
         WITH n, ", vector!(), " AS vector
         WHERE vector IS NOT NULL AND coalesce(n.mos_space <> $space, true)
               AND coalesce(n.mos_aside_space <> $space, true)
         RETURN count(*) AS count");
    ADOPT_SPACE = "MATCH (n:Memory {user_name: $tenant}) WHERE n.mos_aside_space = $space
         SET n.embedding = n.mos_aside, n.mos_space = $space REMOVE n.mos_aside, n.mos_aside_space";
    DROP_OTHER_SPACES = "MATCH (n:Memory {user_name: $tenant})
         WHERE n.mos_space <> $space OR n.mos_aside IS NOT NULL
         FOREACH (_ IN CASE WHEN n.mos_space <> $space THEN [1] ELSE [] END | REMOVE n.embedding, n.mos_space)
         REMOVE n.mos_aside, n.mos_aside_space";
    EMBEDDED = "MATCH (n:Memory {user_name: $tenant}) WHERE n.mos_space = $space
         RETURN n.id AS id ORDER BY n.mos_sequence";
    RENUMBER = "UNWIND $rows AS row MATCH (n:Memory {user_name: $tenant, id: row.id}) USING INDEX SEEK n:Memory(user_name, id) SET n.mos_sequence = row.sequence";

    // Writing: the end of a cube.

    FORGET_VERSIONS = "MATCH (v:MosVersion) WHERE v.tenant = $tenant AND v.id IS NOT NULL DELETE v";
    FORGET_RECEIPTS = "MATCH (r:MosReceipt) WHERE r.tenant = $tenant AND r.number > 0 DELETE r";
    FORGET_NUMBERS = "MATCH (t:MosTombstone) WHERE t.tenant = $tenant AND t.sequence > 0 SET t.number = 0";

    // The store as a whole.

    SCHEMA_VERSION = "MATCH (m:MosMeta {name: 'schema'}) RETURN m.version AS version";
    WRITE_SCHEMA_VERSION = "MERGE (m:MosMeta {name: 'schema'}) ON CREATE SET m.version = $version";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_on_memories_names_its_tenant() {
        for (name, text) in ALL.iter().filter(|(_, text)| text.contains("Memory")) {
            assert!(
                text.contains("user_name: $tenant") || text.contains("user_name = $tenant") || *name == "INSERT",
                "{name}"
            );
        }
    }
}
