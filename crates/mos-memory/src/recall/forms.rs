//! Terms of texts, with irregular forms of English words brought to one term, which no stemmer does.

use std::collections::HashMap;
use std::sync::Arc;

use mos_core::Analyzer;

/// Base forms, each followed by its irregular ones; without those whose stem is another word (lives, leaves).
const IRREGULAR: &str = "\
    go goes went gone going; get got gotten getting; make made making; take took taken taking; come came coming; \
    see saw seen seeing; know knew known; think thought; give gave given giving; find found; tell told; feel felt; \
    leave left; keep kept; begin began begun; show showed shown; hear heard; run ran running; bring brought; \
    write wrote written writing; sit sat sitting; stand stood; lose lost losing; pay paid; meet met; learn learnt; \
    lead led; understand understood; speak spoke spoken; spend spent; grow grew grown; win won winning; buy bought; \
    send sent; build built; fall fell fallen; sell sold; teach taught; catch caught; eat ate eaten; \
    drink drank drunk; drive drove driven driving; fly flew flown; forget forgot forgotten; hold held; \
    choose chose chosen choosing; draw drew drawn; break broke broken; sing sang sung; swim swam swum swimming; \
    sleep slept; ride rode ridden riding; rise rose risen; throw threw thrown; wear wore worn; wake woke woken; \
    fight fought; seek sought; steal stole stolen; strike struck; hide hid hidden; bite bit bitten; \
    blow blew blown; bend bent; bind bound; bleed bled; deal dealt; dig dug; dream dreamt; feed fed; \
    forgive forgave forgiven; freeze froze frozen; hang hung; lend lent; light lit; lie lay lain; mean meant; \
    ring rang rung; shake shook shaken; shine shone; shoot shot; shrink shrank shrunk; sink sank sunk; slide slid; \
    spin spun; spring sprang sprung; stick stuck; sweep swept; swear swore sworn; tear tore torn; weave wove woven; \
    weep wept; become became; overcome overcame; child children; man men; woman women; person people; foot feet; \
    tooth teeth; mouse mice; wife wives; knife knives; half halves; mom mum; \
    kid kids; photo photos; bike bikes";

/// Turns texts into the terms that are compared.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    analyzer: Arc<dyn Analyzer>,
    /// Term of an irregular form to the term of its base form.
    base_of: HashMap<String, String>,
}

impl Terms {
    /// Returns what turns texts into terms as `analyzer` does, and irregular forms into those of their base forms.
    pub(super) fn new(analyzer: Arc<dyn Analyzer>) -> Self {
        let mut base_of = HashMap::new();
        for group in IRREGULAR.split(';') {
            let mut forms = group.split_whitespace().filter_map(|word| single(&*analyzer, word));
            let Some(base) = forms.next() else { continue };
            for form in forms.filter(|form| *form != base) {
                base_of.insert(form, base.clone());
            }
        }
        Self { analyzer, base_of }
    }

    /// Returns the terms of a text in reading order.
    pub(super) fn of(&self, text: &str) -> Vec<String> {
        let mut terms = self.analyzer.terms(text);
        for term in &mut terms {
            if let Some(base) = self.base_of.get(term.as_str()) {
                term.clone_from(base);
            }
        }
        terms
    }

    /// Whether a word says nothing: the analyzer leaves it out.
    pub(super) fn is_empty_word(&self, word: &str) -> bool {
        self.analyzer.terms(word).is_empty()
    }
}

/// The term of a word that is one term.
fn single(analyzer: &dyn Analyzer, word: &str) -> Option<String> {
    let mut terms = analyzer.terms(word);
    terms.pop().filter(|_| terms.is_empty())
}

#[cfg(test)]
mod tests {
    use mos_stores::TextAnalyzer;

    use super::*;

    #[test]
    fn irregular_forms_share_the_term_of_their_base() {
        let terms = Terms::new(Arc::new(TextAnalyzer::new()));
        for (form, base) in
            [("went", "go"), ("bought", "buy"), ("children", "child"), ("driven", "drive"), ("knives", "knife")]
        {
            assert_eq!(terms.of(form), terms.of(base), "{form}");
            assert_eq!(terms.of(base).len(), 1, "{base}");
        }
        assert_ne!(terms.of("train"), terms.of("rain"));
        assert_eq!(terms.of("我昨天去了北京"), TextAnalyzer::new().terms("我昨天去了北京"));
    }

    #[test]
    fn no_base_is_a_form_of_another() {
        let terms = Terms::new(Arc::new(TextAnalyzer::new()));
        for base in terms.base_of.values() {
            assert!(!terms.base_of.contains_key(base), "{base}");
        }
    }

    #[test]
    fn words_that_say_nothing_are_known() {
        let terms = Terms::new(Arc::new(TextAnalyzer::new()));
        assert!(terms.is_empty_word("the") && !terms.is_empty_word("rose"));
    }
}
