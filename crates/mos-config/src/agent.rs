//! MemOS' terminal chat and research agent.

use crate::llm::ChatModelConfig;

section! {
    /// The terminal chat.
    pub struct SimpleMemChat {
        /// The user that chats.
        required user_id: String,
        /// The session. Absent: a new one.
        omitted session_id: Option<String>,
        /// When the configuration was made, as it was written.
        omitted created_at: Option<String>,
        /// Name of the configuration file.
        default config_filename: String = "config.json".to_owned(),
        /// The model.
        required chat_llm: ChatModelConfig,
        /// Turns that are kept.
        default max_turns_window: usize = 15,
        /// Memories per question.
        default top_k: usize = 5,
        /// Uses textual memory.
        default enable_textual_memory: bool = false,
        /// Uses activation memory.
        default enable_activation_memory: bool = false,
        /// Uses parametric memory.
        default enable_parametric_memory: bool = false,
    }
}

backends! {
    /// A chat in the terminal.
    pub enum MemChatConfig {
        /// The only one.
        Simple(SimpleMemChat) = "simple",
    }
}

section! {
    /// An agent that answers in rounds.
    pub struct SimpleAgent {
        /// Its name.
        required agent_name: String,
        /// What it is for.
        default description: Option<String> = None,
        /// The most rounds.
        default max_iterations: usize = 10,
        /// Seconds that an answer may take.
        default timeout: usize = 30,
    }
}

section! {
    /// An agent that searches in rounds.
    pub struct DeepSearchAgent {
        /// Its name.
        required agent_name: String,
        /// What it is for.
        default description: Option<String> = None,
        /// The most rounds.
        default max_iterations: usize = 3,
        /// Seconds that an answer may take.
        default timeout: usize = 30,
    }
}

backends! {
    /// An agent over memories.
    pub enum MemAgentConfig {
        /// Answers in rounds.
        Simple(SimpleAgent) = "simple",
        /// Searches in rounds.
        DeepSearch(DeepSearchAgent) = "deep_search",
    }
}
