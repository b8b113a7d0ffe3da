//! Chat and embedding models over HTTP, and fetching of model files.
