//! ZooKeeper's tree of nodes as a state machine without sessions, watches or time: the same writes in the same order give
//! the same tree and the same answers on every server. [`super::memory`] and the simulator stand on it.

use std::collections::BTreeMap;

use super::backend::{CreateMode, MultiResult, Node, Op, OpResult, Stat, WatchEvent, WatchKind};
use super::error::ZkError;

#[derive(Debug, Clone, Default)]
struct Znode {
    data: Vec<u8>,
    stat: Stat,
    next_sequence: u32,
    /// The transaction that last created or deleted a child (`pzxid`).
    children_changed: i64,
}

/// What a node looked like before an operation; `None` if there was none.
type Undo = Vec<(String, Option<Znode>)>;

/// What a watch on a node may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watching {
    /// Its data and its existence.
    Data,
    /// The names of its children.
    Children,
}

/// What watches are told of: a node, the kind of watch, the event.
pub type Fired = (Watching, WatchEvent);

/// The tree.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Znode>,
    zxid: i64,
}

impl Tree {
    /// The number of the last write.
    pub fn zxid(&self) -> i64 {
        self.zxid
    }

    /// All paths, sorted, with their data.
    pub fn dump(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node.data.as_slice()))
    }

    /// A node.
    pub fn get(&self, path: &str) -> Result<Node, ZkError> {
        let node = self.nodes.get(path).ok_or(ZkError::NoNode)?;
        Ok(Node { data: node.data.clone(), stat: node.stat })
    }

    /// A node's stat, if there is one.
    pub fn stat(&self, path: &str) -> Option<Stat> {
        self.nodes.get(path).map(|node| node.stat)
    }

    /// The write that last changed a node's list of children, if there is such a node.
    pub fn children_changed(&self, path: &str) -> Option<i64> {
        self.nodes.get(path).map(|node| node.children_changed)
    }

    /// The names of a node's children.
    pub fn children(&self, path: &str) -> Result<Vec<String>, ZkError> {
        if path != "/" && !self.nodes.contains_key(path) {
            return Err(ZkError::NoNode);
        }
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let below = self.nodes.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        let names = below.map(|(name, _)| name[prefix.len()..].to_owned());
        Ok(names.filter(|name| !name.contains('/')).collect())
    }

    /// Applies all of `ops` or none, on behalf of `session`. What watches are to be told goes to `fired`.
    pub fn multi(&mut self, session: i64, ops: &[Op], fired: &mut Vec<Fired>) -> MultiResult {
        self.zxid += 1;
        let mut undo = Undo::new();
        let mut results = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            match self.apply(session, op, &mut undo) {
                Ok(result) => results.push(result),
                Err(error) => {
                    self.roll_back(undo);
                    return Err((index, error));
                }
            }
        }
        for (op, result) in ops.iter().zip(&results) {
            match result {
                OpResult::Created { path, .. } => created(path, fired),
                OpResult::Set(_) => fired.push((Watching::Data, event(op.path(), WatchKind::DataChanged))),
                OpResult::Deleted => deleted(op.path(), fired),
                OpResult::Checked => {}
            }
        }
        Ok(results)
    }

    /// Removes the ephemeral nodes of a session that is over.
    pub fn end_session(&mut self, session: i64, fired: &mut Vec<Fired>) {
        let owned = |(path, node): (&String, &Znode)| (node.stat.ephemeral_owner == session).then(|| path.clone());
        let ephemerals: Vec<String> = self.nodes.iter().filter_map(owned).collect();
        self.zxid += 1;
        for path in ephemerals {
            self.nodes.remove(&path);
            self.note_child(&path, &mut Undo::new());
            deleted(&path, fired);
        }
    }

    fn has_children(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        self.nodes.range(prefix.clone()..).next().is_some_and(|(name, _)| name.starts_with(&prefix))
    }

    fn apply(&mut self, session: i64, op: &Op, undo: &mut Undo) -> Result<OpResult, ZkError> {
        match op {
            Op::Create { path, data, mode } => self.create(session, path, data, *mode, undo),
            Op::Set { path, data, version } => {
                let zxid = self.zxid;
                let node = self.versioned(path, *version)?;
                undo.push((path.clone(), Some(node.clone())));
                node.data.clone_from(data);
                node.stat.version += 1;
                node.stat.mzxid = zxid;
                Ok(OpResult::Set(node.stat))
            }
            Op::Delete { path, version } => {
                let node = self.versioned(path, *version)?.clone();
                if self.has_children(path) {
                    return Err(ZkError::NotEmpty);
                }
                undo.push((path.clone(), Some(node)));
                self.nodes.remove(path);
                self.note_child(path, undo);
                Ok(OpResult::Deleted)
            }
            Op::Check { path, version } => self.versioned(path, Some(*version)).map(|_| OpResult::Checked),
        }
    }

    fn versioned(&mut self, path: &str, version: Option<i32>) -> Result<&mut Znode, ZkError> {
        let node = self.nodes.get_mut(path).ok_or(ZkError::NoNode)?;
        if version.is_some_and(|version| version != node.stat.version) {
            return Err(ZkError::BadVersion);
        }
        Ok(node)
    }

    fn create(
        &mut self,
        session: i64,
        path: &str,
        data: &[u8],
        mode: CreateMode,
        undo: &mut Undo,
    ) -> Result<OpResult, ZkError> {
        let mut path = path.to_owned();
        let above = parent(&path).to_owned();
        if above != "/" {
            let parent = self.nodes.get_mut(&above).ok_or(ZkError::NoNode)?;
            if parent.stat.ephemeral_owner != 0 {
                return Err(ZkError::NoChildrenForEphemerals);
            }
            if mode == CreateMode::PersistentSequential {
                path = format!("{path}{:010}", parent.next_sequence);
                undo.push((above, Some(parent.clone())));
                parent.next_sequence += 1;
            }
        }
        if self.nodes.contains_key(&path) {
            return Err(ZkError::NodeExists);
        }
        let owner = if mode == CreateMode::Ephemeral { session } else { 0 };
        let stat = Stat { czxid: self.zxid, mzxid: self.zxid, version: 0, ephemeral_owner: owner };
        undo.push((path.clone(), None));
        let node = Znode { data: data.to_owned(), stat, next_sequence: 0, children_changed: self.zxid };
        self.nodes.insert(path.clone(), node);
        self.note_child(&path, undo);
        Ok(OpResult::Created { path, stat })
    }

    fn note_child(&mut self, path: &str, undo: &mut Undo) {
        let (above, zxid) = (parent(path), self.zxid);
        if let Some(node) = self.nodes.get_mut(above) {
            undo.push((above.to_owned(), Some(node.clone())));
            node.children_changed = zxid;
        }
    }

    fn roll_back(&mut self, undo: Undo) {
        for (path, before) in undo.into_iter().rev() {
            match before {
                Some(node) => self.nodes.insert(path, node),
                None => self.nodes.remove(&path),
            };
        }
    }
}

fn event(path: &str, kind: WatchKind) -> WatchEvent {
    WatchEvent { path: path.to_owned(), kind }
}

fn created(path: &str, fired: &mut Vec<Fired>) {
    fired.push((Watching::Data, event(path, WatchKind::Created)));
    fired.push((Watching::Children, event(parent(path), WatchKind::ChildrenChanged)));
}

fn deleted(path: &str, fired: &mut Vec<Fired>) {
    fired.push((Watching::Data, event(path, WatchKind::Deleted)));
    fired.push((Watching::Children, event(path, WatchKind::Deleted)));
    fired.push((Watching::Children, event(parent(path), WatchKind::ChildrenChanged)));
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multi_that_fails_leaves_no_trace() {
        let mut tree = Tree::default();
        tree.multi(1, &[Op::create("/a", "x"), Op::create("/a/b", "")], &mut Vec::new()).unwrap();
        let (before, changed) = (tree.get("/a").unwrap(), tree.children_changed("/a"));
        let ops = [Op::create("/a/c", ""), Op::set("/a", "y", None), Op::delete("/a/b", None), Op::check("/a", 7)];
        let mut fired = Vec::new();
        assert_eq!(tree.multi(1, &ops, &mut fired), Err((3, ZkError::BadVersion)));
        assert!(fired.is_empty());
        assert_eq!((tree.get("/a").unwrap(), tree.children_changed("/a")), (before, changed));
        assert_eq!(tree.children("/a").unwrap(), ["b"]);
    }

    #[test]
    fn the_end_of_a_session_takes_its_nodes() {
        let mut tree = Tree::default();
        let mut fired = Vec::new();
        tree.multi(7, &[Op::create("/a", ""), Op::create_ephemeral("/a/b", "")], &mut fired).unwrap();
        assert_eq!(tree.children_changed("/a"), Some(1));
        fired.clear();
        tree.end_session(7, &mut fired);
        assert_eq!((tree.children("/a").unwrap().len(), tree.children_changed("/a"), tree.zxid()), (0, Some(2), 2));
        assert!(fired.contains(&(Watching::Children, event("/a", WatchKind::ChildrenChanged))));
    }
}
