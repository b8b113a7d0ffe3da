//! MemOS' names that choose parts of an installation, and those that cannot have an effect.

/// A name that [`from_environment`](super::from_environment) heeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutomaticVariable {
    /// The name.
    pub name: &'static str,
    /// What it does; empty when it never has an effect.
    pub effect: &'static str,
    /// Why it has no effect where it has none.
    pub otherwise: &'static str,
}

const fn does(name: &'static str, effect: &'static str, otherwise: &'static str) -> AutomaticVariable {
    AutomaticVariable { name, effect, otherwise }
}

const fn never(name: &'static str, otherwise: &'static str) -> AutomaticVariable {
    AutomaticVariable { name, effect: "", otherwise }
}

const OF_READER: &str =
    "the reader needs a model at a server; set MEMRADER_MODEL and MEMRADER_API_BASE, or OPENAI_API_KEY";
const OF_MULTI_MODAL: &str = "it is for the reader multimodal_struct with a model at a server (MEMRADER_MODEL)";
const OF_STRATEGY: &str =
    "it is for the reader strategy_struct (MEM_READER_BACKEND) with a model at a server (MEMRADER_MODEL)";
const OF_NEO4J: &str = "it is for a record in Neo4j; set GRAPH_DB_BACKEND to neo4j or neo4j-community";
const OF_COMMUNITY: &str = "it is for GRAPH_DB_BACKEND=neo4j-community; without it vectors are in the record";
const OF_USERS: &str =
    "it is for users in PostgreSQL, beside a record in Neo4j; set GRAPH_DB_BACKEND and POSTGRES_HOST";
const OF_RERANKER: &str = "it is for a reranker behind HTTP; set MOS_RERANKER_URL";
const OF_INTERNET: &str = "it is for searches of the internet; set ENABLE_INTERNET=true, and INTERNET_SEARCH_BACKEND";
const OF_TREE: &str = "it is for cubes that are trees; set MOS_TEXT_MEM_TYPE=tree_text";
const OF_REDIS: &str =
    "jobs are in the record, in the transaction of the write that they belong to; Redis is for a record in Neo4j";
const OF_SERVER: &str = "it is for a server over HTTP, not for a program that calls this library";
const OF_CLIENT: &str = "it is for MemOS' client, which calls a server";
const ALWAYS_FUSED: &str =
    "meaning, words, tags and time always take part; set their weights under `recall` in the settings";
const NO_OBJECT_STORE: &str = "skills are kept as memories of their cube";
const ONE_MODEL: &str = "the chat model does that; a cube's configuration can name another";

/// Every name that [`from_environment`](super::from_environment) heeds besides [`VARIABLES`](crate::VARIABLES).
pub const AUTOMATIC_VARIABLES: &[AutomaticVariable] = &[
    does("MEMOS_BASE_PATH", "data is kept in the folder `.memos` inside it", ""),
    does(
        "MEMRADER_MODEL",
        "the model that reads conversations and documents, at a server that speaks OpenAI's format",
        OF_READER,
    ),
    does("MEMRADER_API_KEY", "the key of the reader's models; without it `OPENAI_API_KEY`", OF_READER),
    does("MEMRADER_API_BASE", "the address of the reader's models; without it `OPENAI_API_BASE`", OF_READER),
    does("MEMRADER_MAX_TOKENS", "the most tokens of an answer of the reader's models", OF_READER),
    does("MEMREADER_GENERAL_MODEL", "the reader's model for what is no conversation and no document", OF_READER),
    does("IMAGE_PARSER_MODEL", "the reader's model for images", OF_READER),
    does("DOCUMENT_PARSER_MODEL", "the reader's model for documents", OF_READER),
    does("PREFERENCE_EXTRACTOR_MODEL", "the reader's model for preferences", OF_READER),
    does("MEM_READER_BACKEND", "`simple_struct`, `strategy_struct` or `multimodal_struct` (unless set)", OF_READER),
    does("FILE_PARSER_CHUNK_SIZE", "tokens of a piece of a document", OF_READER),
    does("FILE_PARSER_CHUNK_OVERLAP", "tokens that neighbouring pieces share", OF_READER),
    does("MEM_READER_SAVE_RAWFILENODE", "whether pieces of raw files are kept", OF_READER),
    does("FILE_PARSER_DIRECT_MARKDOWN_HOSTNAMES", "hosts whose documents are Markdown, between commas", OF_MULTI_MODAL),
    does("MEM_READER_MEM_VERSION_SWITCH", "accepted; earlier versions are always kept", OF_MULTI_MODAL),
    does("MEM_READER_CHAT_CHUNK_TYPE", "how conversations are cut: `content_length`, or by messages", OF_STRATEGY),
    does("MEM_READER_CHAT_CHUNK_TOKEN_SIZE", "tokens of a piece of a conversation", OF_STRATEGY),
    does("MEM_READER_CHAT_CHUNK_SESS_SIZE", "messages of a piece of a conversation", OF_STRATEGY),
    does("MEM_READER_CHAT_CHUNK_OVERLAP", "messages that neighbouring pieces share", OF_STRATEGY),
    does("GRAPH_DB_BACKEND", "`neo4j` or `neo4j-community`: memories are kept on a Neo4j server", ""),
    does("NEO4J_BACKEND", "the older name of `GRAPH_DB_BACKEND`", "GRAPH_DB_BACKEND is set too"),
    does("NEO4J_URI", "address of the Neo4j server; `bolt://localhost:7687` unless set", OF_NEO4J),
    does("NEO4J_USER", "user of the Neo4j server", OF_NEO4J),
    does("NEO4J_PASSWORD", "password of that user; there is no default", OF_NEO4J),
    does("NEO4J_DB_NAME", "name of the database", OF_NEO4J),
    does("QDRANT_URL", "address of the Qdrant server that holds vectors", OF_COMMUNITY),
    does("QDRANT_HOST", "host of the Qdrant server; `localhost` unless set", OF_COMMUNITY),
    does("QDRANT_PORT", "port of the Qdrant server", OF_COMMUNITY),
    does("QDRANT_PATH", "a local folder of Qdrant", OF_COMMUNITY),
    does("QDRANT_API_KEY", "key of the Qdrant server", OF_COMMUNITY),
    does("POSTGRES_HOST", "host of the PostgreSQL server that holds users and cubes", OF_NEO4J),
    does("POSTGRES_PORT", "its port", OF_USERS),
    does("POSTGRES_USER", "its user", OF_USERS),
    does("POSTGRES_PASSWORD", "the password of that user", OF_USERS),
    does("POSTGRES_DB", "its database", OF_USERS),
    does("MEMOS_SCHEMA", "the schema of the tables", OF_USERS),
    does("MOS_RERANKER_BACKEND", "how found memories are ordered; `http_bge` when `MOS_RERANKER_URL` is set", ""),
    does("MOS_RERANKER_URL", "address of the reranking model", OF_RERANKER),
    does("MOS_RERANKER_MODEL", "name of the reranking model", OF_RERANKER),
    does("MOS_RERANKER_HEADERS_EXTRA", "headers that are sent to it, a JSON object", OF_RERANKER),
    does("MOS_RERANKER_STRATEGY", "how memories are put together for it", OF_RERANKER),
    does("MOS_RERANKER_MAX_TOKENS", "the most characters of a query", OF_RERANKER),
    does("MOS_RERANKER_CONCAT_LEN", "the most characters of context that are joined to a memory", OF_RERANKER),
    does("MOS_RERANK_SOURCE", "what is joined to a memory", OF_RERANKER),
    does("ENABLE_INTERNET", "`true`: searches may ask the internet", ""),
    does("INTERNET_SEARCH_BACKEND", "`bocha` or `tavily`; unless set, the one that has a key", OF_INTERNET),
    does("BOCHA_API_KEY", "the key of the account at Bocha", OF_INTERNET),
    does("TAVILY_API_KEY", "the key of the account at Tavily", OF_INTERNET),
    does("TAVILY_SEARCH_DEPTH", "`basic` or `advanced`", OF_INTERNET),
    does("TAVILY_INCLUDE_ANSWER", "whether Tavily writes an answer too", OF_INTERNET),
    does("API_SCHEDULER_ON", "whether there is work in the background; `MOS_ENABLE_SCHEDULER` wins", ""),
    does("MEMSCHEDULER_USE_REDIS_QUEUE", "`true`: jobs of a record in Neo4j are kept in Redis", OF_REDIS),
    does("MEMSCHEDULER_REDIS_HOST", "host of the Redis server", OF_REDIS),
    does("MEMSCHEDULER_REDIS_PORT", "its port", OF_REDIS),
    does("MEMSCHEDULER_REDIS_DB", "the number of its database", OF_REDIS),
    does("MEMSCHEDULER_REDIS_PASSWORD", "its password", OF_REDIS),
    does("MOS_WORKING_MEMORY", "the most memories of a tree's working memory", OF_TREE),
    does("MOS_LONGTERM_MEMORY", "the most long-term memories of a tree", OF_TREE),
    does("MOS_USER_MEMORY", "the most user memories of a tree", OF_TREE),
    does("MOS_ENABLE_REORGANIZE", "whether trees are organised after adding", OF_TREE),
    does("ASYNC_MODE", "`sync` or `async`: when memories of a tree are refined", OF_TREE),
    does("VEC_COT_CALL", "whether searches of a tree split hard questions", OF_TREE),
    does("ENABLE_CHAT_API", "whether the product API answers chats; it does unless this is `false`", ""),
    does("BUSINESS_CHAT_KEYS", "the keys of business chats, a JSON list", ""),
    does("CHAT_MODEL_LIST", "models that chats may name, a JSON list", ""),
    does("MEMOS_ENABLED_PLUGINS", "plugins that are on, between commas; `dream` is the scheduler's `enable_dream`", ""),
    does("MEMOS_DISABLED_PLUGINS", "plugins that are off, between commas", ""),
    does("MASTER_KEY_HASH", "`mos serve`: the SHA-256 of a key that may do everything and is in no store", OF_SERVER),
    does(
        "REDIS_URL",
        "`mos migrate`: the queue beside a Neo4j server that the environment names; elsewhere what a file refers to",
        "requests are counted in each process; for jobs set MEMSCHEDULER_USE_REDIS_QUEUE, MEMSCHEDULER_REDIS_HOST",
    ),
    never("PLAYGROUND_CHAT_MODEL_LIST", "all chats know the models of CHAT_MODEL_LIST"),
    never("QWEN_MODEL", "name the model with MOS_CHAT_MODEL and MOS_CHAT_MODEL_PROVIDER=qwen"),
    never("FEEDBACK_MODEL", ONE_MODEL),
    never("SUGGESTION_MODEL", ONE_MODEL),
    never("MEMSCHEDULER_MODEL", ONE_MODEL),
    never("MEMREADER_ENABLE_BACKUP", "name a second server with backup_client in the settings of the reader's model"),
    never("MOS_FEEDBACK_RERANKER_BACKEND", "corrections are compared with the reranker of all searches"),
    never("MOS_FEEDBACK_RERANKER_MODEL", "corrections are compared with the reranker of all searches"),
    never(
        "MOS_NEO4J_SHARED_DB",
        "tenants share a database and are kept apart in every query; see `own_database` of the store",
    ),
    never("FINE_STRATEGY", "each search says how far it goes: mode, sub-questions, deep"),
    never("FAST_GRAPH", ALWAYS_FUSED),
    never("BM25_CALL", ALWAYS_FUSED),
    never("FULLTEXT_CALL", ALWAYS_FUSED),
    never("INCLUDE_EMBEDDING", "ask for vectors where they are wanted: dumps hold them"),
    never("MEMOS_MMR_CANDIDATE_PRUNING_ENABLED", "each search says which repetitions it leaves out"),
    never("PROFILE_MEMORY_RESERVED_TOP_K", "memories of all kinds are ranked together"),
    never("MEMSCHEDULER_REDIS_TIMEOUT", "the client's own time limits hold"),
    never("MEMSCHEDULER_REDIS_CONNECT_TIMEOUT", "the client's own time limits hold"),
    never(
        "MEMSCHEDULER_STREAM_KEY_PREFIX",
        "name a prefix with MOS__QUEUE__CONFIG__PREFIX (letters, digits, `-`, `_` and `.`)",
    ),
    never("DEFAULT_USE_REDIS_QUEUE", "MemOS does not read it either; see MEMSCHEDULER_USE_REDIS_QUEUE"),
    never("FILE_LOCAL_PATH", "no path of a request leads to a file"),
    never(
        "AUTH_ENABLED",
        "a server always asks for keys; `mos serve --compat-open` asks nobody, on this machine alone",
    ),
    never("INTERNAL_SERVICE_SECRET", "services show a key, as everybody does; POST /admin/keys makes one"),
    never("SKILLS_REPO_BACKEND", NO_OBJECT_STORE),
    never("SKILLS_OSS_DIR", NO_OBJECT_STORE),
    never("SKILLS_LOCAL_DIR", NO_OBJECT_STORE),
    never("SKILLS_LOCAL_TMP_DIR", NO_OBJECT_STORE),
    never("ENABLE_DINGDING_BOT", "there is no bot; the scheduler's events can be sent to a program of yours"),
    never("MEMOS_BASE_URL", OF_CLIENT),
    never("MEMOS_API_KEY", OF_CLIENT),
    never("MEMOS_IS_GLOBAL", OF_CLIENT),
];

/// Beginnings of names that never have an effect, with why; names of the tables are none of them.
pub(super) const FAMILIES: &[(&str, &str)] = &[
    ("POLAR_DB_", "memories are not kept in PolarDB; the servers that can hold them are neo4j and neo4j-community"),
    ("MILVUS_", "preferences are kept in the record of their cube"),
    ("NACOS_", "settings come from a file and the environment"),
    ("DINGDING_", "there is no bot; the scheduler's events can be sent to a program of yours"),
    ("OSS_", NO_OBJECT_STORE),
    ("MEMOS_DREAM_", "memories are organised by MOS_ENABLE_REORGANIZE, or on request"),
    ("MEMSCHEDULER_", "the name is not known"),
    ("MEMRADER_", "the name is not known"),
    ("MEM_READER_", "the name is not known"),
];
