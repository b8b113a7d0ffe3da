//! A radix tree over token ids: which stored sequences begin as a given one does, and how far.
//!
//! Every tenant has a tree of its own, named by a salt: sequences under one salt are never found under another. Ids
//! are compared, not hashes of them. Nodes lie in one arena, so that long chains cost no stack.
//!
//! Invariant: a node other than a root holds a value or has at least two children; so the tree is as small as what is
//! stored, and below every node there is a value. The owner bounds what is stored, see [`RadixTree::token_count`].

use std::collections::{BTreeMap, HashMap};

/// The place of a node in the arena.
type NodeId = usize;

/// Maps sequences of token ids, per salt, to values.
#[derive(Clone, Debug)]
pub struct RadixTree<V> {
    nodes: Vec<Node<V>>,
    /// Places in `nodes` that can be used again.
    free: Vec<NodeId>,
    roots: HashMap<String, NodeId>,
    values: usize,
    tokens: usize,
}

#[derive(Clone, Debug)]
struct Node<V> {
    /// What leads here from the parent; empty at a root only.
    label: Vec<u32>,
    parent: Option<NodeId>,
    /// By the first token of their label.
    children: BTreeMap<u32, NodeId>,
    value: Option<V>,
}

/// What [`RadixTree::longest_prefix`] found.
#[derive(Debug, PartialEq, Eq)]
pub struct PrefixMatch<'t, V> {
    /// The number of tokens that the given sequence shares with the stored one that fits best.
    pub matched: usize,
    /// The stored sequences that the given one begins with: their lengths, ascending, and their values.
    pub whole: Vec<(usize, &'t V)>,
    /// The value of a stored sequence that begins with all `matched` tokens; the shortest such way down is taken by
    /// ascending token ids. `None` when nothing matched and nothing is stored under the salt.
    pub covering: Option<&'t V>,
}

/// Where a walk along a sequence ended.
struct Walk {
    /// The node that was reached, or in whose label the walk ended.
    node: NodeId,
    /// Tokens of that node's label that matched.
    in_label: usize,
    /// Tokens that matched in all.
    matched: usize,
}

impl<V> Default for RadixTree<V> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), roots: HashMap::new(), values: 0, tokens: 0 }
    }
}

impl<V> RadixTree<V> {
    /// Returns an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of stored sequences, of all salts.
    pub fn len(&self) -> usize {
        self.values
    }

    /// Returns whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// Returns the number of tokens that the tree keeps, of all salts; what sequences share counts once.
    pub fn token_count(&self) -> usize {
        self.tokens
    }

    /// Stores a value for a sequence, and returns the one that it replaces. The empty sequence may be stored too.
    pub fn insert(&mut self, salt: &str, tokens: &[u32], value: V) -> Option<V> {
        let root = match self.roots.get(salt) {
            Some(root) => *root,
            None => {
                let root = self.create(Vec::new(), None);
                self.roots.insert(salt.to_owned(), root);
                root
            }
        };
        let walk = self.walk(root, tokens);
        let branch = if walk.in_label < self.nodes[walk.node].label.len() {
            self.split(walk.node, walk.in_label)
        } else {
            walk.node
        };
        let rest = &tokens[walk.matched..];
        let target = match rest.first() {
            None => branch,
            Some(first) => {
                self.tokens += rest.len();
                let leaf = self.create(rest.to_vec(), Some(branch));
                self.nodes[branch].children.insert(*first, leaf);
                leaf
            }
        };
        let previous = self.nodes[target].value.replace(value);
        self.values += usize::from(previous.is_none());
        previous
    }

    /// Returns the value of exactly this sequence.
    pub fn get(&self, salt: &str, tokens: &[u32]) -> Option<&V> {
        self.exact(salt, tokens).and_then(|node| self.nodes[node].value.as_ref())
    }

    /// Returns how much of a sequence is stored under a salt, and which values that concerns.
    pub fn longest_prefix(&self, salt: &str, tokens: &[u32]) -> PrefixMatch<'_, V> {
        let Some(root) = self.roots.get(salt) else {
            return PrefixMatch { matched: 0, whole: Vec::new(), covering: None };
        };
        let walk = self.walk(*root, tokens);
        let mut whole = Vec::new();
        let mut end = walk.matched - walk.in_label + self.nodes[walk.node].label.len();
        let mut node = Some(walk.node);
        while let Some(current) = node {
            let Node { label, parent, value, .. } = &self.nodes[current];
            if let Some(value) = value.as_ref().filter(|_| end <= walk.matched) {
                whole.push((end, value));
            }
            end -= label.len();
            node = *parent;
        }
        whole.reverse();
        PrefixMatch { matched: walk.matched, whole, covering: self.first_below(walk.node) }
    }

    /// Removes a sequence and returns its value.
    pub fn remove(&mut self, salt: &str, tokens: &[u32]) -> Option<V> {
        let node = self.exact(salt, tokens)?;
        let value = self.nodes[node].value.take()?;
        self.values -= 1;
        self.tidy(salt, node);
        Some(value)
    }

    /// Removes all that is stored under a salt, and returns how many sequences that were.
    pub fn remove_salt(&mut self, salt: &str) -> usize {
        let Some(root) = self.roots.remove(salt) else { return 0 };
        let before = self.values;
        let mut rest = vec![root];
        while let Some(node) = rest.pop() {
            rest.extend(std::mem::take(&mut self.nodes[node].children).into_values());
            self.values -= usize::from(self.nodes[node].value.take().is_some());
            self.release(node);
        }
        before - self.values
    }

    /// Follows a sequence as far as it is stored.
    fn walk(&self, root: NodeId, tokens: &[u32]) -> Walk {
        let mut walk = Walk { node: root, in_label: 0, matched: 0 };
        while let Some(first) = tokens.get(walk.matched) {
            let Some(child) = self.nodes[walk.node].children.get(first) else { break };
            let label = &self.nodes[*child].label;
            let shared = label.iter().zip(&tokens[walk.matched..]).take_while(|(have, want)| have == want).count();
            walk = Walk { node: *child, in_label: shared, matched: walk.matched + shared };
            if shared < label.len() {
                break;
            }
        }
        walk
    }

    fn exact(&self, salt: &str, tokens: &[u32]) -> Option<NodeId> {
        let walk = self.walk(*self.roots.get(salt)?, tokens);
        let whole = walk.matched == tokens.len() && walk.in_label == self.nodes[walk.node].label.len();
        whole.then_some(walk.node)
    }

    /// Returns a value at or below a node.
    fn first_below(&self, mut node: NodeId) -> Option<&V> {
        loop {
            let Node { value, children, .. } = &self.nodes[node];
            if value.is_some() {
                return value.as_ref();
            }
            node = *children.values().next()?;
        }
    }

    fn create(&mut self, label: Vec<u32>, parent: Option<NodeId>) -> NodeId {
        let node = Node { label, parent, children: BTreeMap::new(), value: None };
        if let Some(id) = self.free.pop() {
            self.nodes[id] = node;
            return id;
        }
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn release(&mut self, node: NodeId) {
        self.tokens -= self.nodes[node].label.len();
        self.nodes[node].label = Vec::new();
        self.free.push(node);
    }

    /// Puts a node between `below` and its parent, for the first `at` tokens of its label, and returns it.
    fn split(&mut self, below: NodeId, at: usize) -> NodeId {
        let rest = self.nodes[below].label.split_off(at);
        let head = std::mem::replace(&mut self.nodes[below].label, rest);
        let parent = self.nodes[below].parent;
        let (from_parent, to_below) = (head[0], self.nodes[below].label[0]);
        let middle = self.create(head, parent);
        if let Some(parent) = parent {
            self.nodes[parent].children.insert(from_parent, middle);
        }
        self.nodes[middle].children.insert(to_below, below);
        self.nodes[below].parent = Some(middle);
        middle
    }

    /// Restores the invariant around a node that lost its value.
    fn tidy(&mut self, salt: &str, node: NodeId) {
        if self.nodes[node].value.is_some() {
            return;
        }
        let only = match self.nodes[node].children.len() {
            0 => None,
            1 => self.nodes[node].children.values().next().copied(),
            _ => return,
        };
        let Some(parent) = self.nodes[node].parent else {
            // A root stays as long as anything is below it.
            if only.is_none() {
                self.roots.remove(salt);
                self.release(node);
            }
            return;
        };
        let first = self.nodes[node].label[0];
        match only {
            Some(child) => {
                let tail = std::mem::take(&mut self.nodes[child].label);
                let mut label = std::mem::take(&mut self.nodes[node].label);
                label.extend(tail);
                self.nodes[child].label = label;
                self.nodes[child].parent = Some(parent);
                self.nodes[parent].children.insert(first, child);
                self.nodes[node].children.clear();
                self.release(node);
            }
            None => {
                self.nodes[parent].children.remove(&first);
                self.release(node);
                self.tidy(salt, parent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What a tree holds, the plain way.
    type Model = BTreeMap<(String, Vec<u32>), u32>;

    fn shared(left: &[u32], right: &[u32]) -> usize {
        left.iter().zip(right).take_while(|(a, b)| a == b).count()
    }

    /// Compares everything that can be asked about one sequence.
    fn check(tree: &RadixTree<u32>, model: &Model, salt: &str, tokens: &[u32]) {
        let stored: Vec<(&Vec<u32>, &u32)> =
            model.iter().filter(|((of, _), _)| of == salt).map(|((_, tokens), value)| (tokens, value)).collect();
        let found = tree.longest_prefix(salt, tokens);
        assert_eq!(found.matched, stored.iter().map(|(have, _)| shared(have, tokens)).max().unwrap_or(0));
        let mut whole: Vec<(usize, &u32)> = stored
            .iter()
            .filter(|(have, _)| tokens.starts_with(have))
            .map(|(have, value)| (have.len(), *value))
            .collect();
        whole.sort_unstable();
        assert_eq!(found.whole, whole);
        match found.covering {
            None => assert!(stored.is_empty()),
            Some(value) => {
                assert!(stored.iter().any(|(have, of)| *of == value && have.starts_with(&tokens[..found.matched])));
            }
        }
        assert_eq!(tree.get(salt, tokens), model.get(&(salt.to_owned(), tokens.to_vec())));
    }

    /// Checks the shape that the module promises.
    fn check_shape(tree: &RadixTree<u32>) {
        let mut live = 0;
        let mut kept = 0;
        let mut rest: Vec<NodeId> = tree.roots.values().copied().collect();
        while let Some(id) = rest.pop() {
            let node = &tree.nodes[id];
            live += 1;
            kept += node.label.len();
            assert!(node.parent.is_none() == node.label.is_empty());
            assert!(node.value.is_some() || node.children.len() > usize::from(node.parent.is_some()));
            for (first, child) in &node.children {
                assert_eq!(tree.nodes[*child].label[0], *first);
                assert_eq!(tree.nodes[*child].parent, Some(id));
            }
            rest.extend(node.children.values());
        }
        assert_eq!(kept, tree.token_count());
        assert_eq!(live + tree.free.len(), tree.nodes.len());
    }

    #[derive(Clone, Debug)]
    enum Action {
        Insert(usize, Vec<u32>, u32),
        Remove(usize, Vec<u32>),
        RemoveSalt(usize),
    }

    const SALTS: [&str; 3] = ["", "anna", "ben"];

    fn sequences() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(0_u32..3, 0..9)
    }

    fn actions() -> impl Strategy<Value = Action> {
        prop_oneof![
            6 => (0..SALTS.len(), sequences(), any::<u32>()).prop_map(|(salt, tokens, value)| Action::Insert(salt, tokens, value)),
            4 => (0..SALTS.len(), sequences()).prop_map(|(salt, tokens)| Action::Remove(salt, tokens)),
            1 => (0..SALTS.len()).prop_map(Action::RemoveSalt),
        ]
    }

    proptest! {
        #[test]
        fn the_tree_answers_as_a_plain_map_does(
            actions in prop::collection::vec(actions(), 0..60),
            asked in prop::collection::vec(sequences(), 1..6),
        ) {
            let (mut tree, mut model) = (RadixTree::new(), Model::new());
            for action in actions {
                match action {
                    Action::Insert(salt, tokens, value) => {
                        let salt = SALTS[salt];
                        let before = model.insert((salt.to_owned(), tokens.clone()), value);
                        prop_assert_eq!(tree.insert(salt, &tokens, value), before);
                        check(&tree, &model, salt, &tokens);
                    }
                    Action::Remove(salt, tokens) => {
                        let salt = SALTS[salt];
                        let before = model.remove(&(salt.to_owned(), tokens.clone()));
                        prop_assert_eq!(tree.remove(salt, &tokens), before);
                        check(&tree, &model, salt, &tokens);
                    }
                    Action::RemoveSalt(salt) => {
                        let before = model.len();
                        model.retain(|(of, _), _| of != SALTS[salt]);
                        prop_assert_eq!(tree.remove_salt(SALTS[salt]), before - model.len());
                    }
                }
                check_shape(&tree);
                prop_assert_eq!(tree.len(), model.len());
            }
            for (tokens, salt) in asked.iter().flat_map(|tokens| SALTS.map(|salt| (tokens, salt))) {
                check(&tree, &model, salt, tokens);
            }
        }
    }

    #[test]
    fn a_tenant_never_finds_what_another_stored() {
        let mut tree = RadixTree::new();
        tree.insert("anna", &[1, 2, 3], 7);
        assert_eq!(tree.longest_prefix("ben", &[1, 2, 3]), PrefixMatch { matched: 0, whole: vec![], covering: None });
        assert_eq!(tree.remove("ben", &[1, 2, 3]), None);
        assert_eq!(tree.remove_salt("ben"), 0);
        assert_eq!(tree.get("anna", &[1, 2, 3]), Some(&7));
    }

    #[test]
    fn a_longer_stored_sequence_covers_the_part_that_is_shared() {
        let mut tree = RadixTree::new();
        tree.insert("", &[1, 2], 'a');
        tree.insert("", &[1, 2, 3, 4, 5], 'b');
        let found = tree.longest_prefix("", &[1, 2, 3, 9]);
        assert_eq!(found, PrefixMatch { matched: 3, whole: vec![(2, &'a')], covering: Some(&'b') });
    }

    #[test]
    fn a_chain_of_thousands_of_nodes_keeps_every_token_once() {
        let tokens: Vec<u32> = (0..2_000).collect();
        let mut tree = RadixTree::new();
        for end in 1..=tokens.len() {
            tree.insert("", &tokens[..end], end);
        }
        assert_eq!(tree.token_count(), tokens.len());
        assert_eq!(tree.longest_prefix("", &tokens).whole.len(), tokens.len());
        for end in 1..=tokens.len() {
            assert_eq!(tree.remove("", &tokens[..end]), Some(end));
        }
        assert!(tree.is_empty() && tree.token_count() == 0 && tree.roots.is_empty());
    }
}
