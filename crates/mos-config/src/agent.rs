//! MemOS' terminal chat and research agent.

use crate::llm::ChatModelConfig;
use crate::settings::Settings;

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

impl MemChatConfig {
    /// Returns the settings of an installation whose chats are as this configuration says: its user, session, model, window and
    /// memories. All else is as usual. `examples/chatbot.rs` is the loop with MemOS' commands.
    pub fn to_settings(&self) -> Settings {
        let Self::Simple(chat) = self;
        Settings {
            user_id: chat.user_id.clone(),
            session_id: chat.session_id.clone(),
            chat_model: chat.chat_llm.clone(),
            max_turns_window: chat.max_turns_window,
            top_k: chat.top_k,
            enable_textual_memory: chat.enable_textual_memory,
            enable_activation_memory: chat.enable_activation_memory,
            enable_parametric_memory: chat.enable_parametric_memory,
            ..Settings::default()
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::read::Setting;

    #[test]
    fn a_terminal_chat_is_an_installation() {
        let model = json!({"backend": "ollama", "config": {"model_name_or_path": "m"}});
        let config = json!({"user_id": "ann", "chat_llm": model, "max_turns_window": 3, "enable_textual_memory": true});
        let chat = MemChatConfig::from_json(&json!({"backend": "simple", "config": config})).unwrap();
        let settings = chat.to_settings();
        assert_eq!((settings.user_id.as_str(), settings.chat_model.backend()), ("ann", "ollama"));
        assert_eq!((settings.max_turns_window, settings.top_k, settings.enable_textual_memory), (3, 5, true));
        assert_eq!(settings.embedder, Settings::default().embedder);
    }
}
