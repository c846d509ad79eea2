//! The lives of sessions: opened, disconnected, connected to another server, over.

use std::collections::{BTreeMap, VecDeque};

use barnabas::zk::tree::Watching;
use barnabas::zk::{WatchEvent, WatchKind};
use rand::Rng;
use tokio::sync::{oneshot, watch};

use super::{Opened, Request, SESSION_TIMEOUT, Session, Txn};
use crate::kernel::{Core, Node, TICK};

impl Core {
    /// Opens a session for a process; nothing if it does not reach the ensemble.
    pub fn open_session(&mut self, owner: Node, opened: oneshot::Sender<Opened>) {
        let Some(life) = self.life(owner) else { return };
        if self.zookeeper.unreachable.contains(&owner) || !self.zookeeper.has_quorum {
            return self.after(50, Box::new(move |_| drop(opened)));
        }
        let server = self.rng.random_range(0..self.zookeeper.servers.len());
        let (ended, receiver) = watch::channel(false);
        let zookeeper = &mut self.zookeeper;
        zookeeper.made += 1;
        let id = i64::try_from(zookeeper.made).expect("few sessions");
        let session = Session {
            owner,
            life,
            server: Some(server),
            connection: 0,
            reconnecting: false,
            last_heard: self.now,
            lost_at: 0,
            seen: zookeeper.servers[server].applied,
            due: [0, 0],
            inbox: VecDeque::new(),
            waiting: None,
            watches: BTreeMap::new(),
            ended,
            over: false,
        };
        zookeeper.sessions.insert(id, session);
        self.note(&format!("zk: session {id} of {owner} on server {server}"));
        self.after(TICK, Box::new(move |_| drop(opened.send(Opened { id, ended: receiver }))));
    }

    /// A session's connection breaks: what was under way is lost.
    pub fn lose_connection(&mut self, id: i64) {
        let now = self.now;
        let Some(session) = self.zookeeper.sessions.get_mut(&id) else { return };
        if session.server.take().is_none() {
            return;
        }
        session.connection += 1;
        session.lost_at = now;
        session.inbox.clear();
        session.waiting = None;
        session.due = [now, now];
        session.watches.retain(|_, watch| watch.confirmed);
        session.watches.values_mut().for_each(|watch| watch.fired = false);
        let owner = session.owner;
        self.note(&format!("zk: {owner} loses the connection of session {id}"));
    }

    /// All connections of a machine break.
    pub fn lose_connections_of(&mut self, node: Node) {
        let of_node = self.zookeeper.sessions.iter().filter(|(_, session)| session.owner == node);
        let ids: Vec<i64> = of_node.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.lose_connection(id));
    }

    /// Most of the servers are gone: all connections break, and nothing happens until [`Core::find_quorum`].
    pub fn lose_quorum(&mut self) {
        if !std::mem::replace(&mut self.zookeeper.has_quorum, false) {
            return;
        }
        self.note("zk: there is no quorum");
        let ids: Vec<i64> = self.zookeeper.sessions.keys().copied().collect();
        for id in ids {
            let inbox = self.zookeeper.sessions.get_mut(&id).map(|session| std::mem::take(&mut session.inbox));
            inbox.into_iter().flatten().for_each(|(request, _)| self.perhaps_late(id, request));
            self.lose_connection(id);
        }
    }

    /// A request that nobody answers any more. Had a leader without a quorum got it, its write may be found later.
    pub(super) fn perhaps_late(&mut self, id: i64, request: Request) {
        if let Request::Write(ops) = request
            && !self.zookeeper.has_quorum
            && self.chance(0.5)
        {
            self.zookeeper.late.push(Txn::Multi(id, ops));
        }
    }

    /// There is a quorum again.
    pub fn find_quorum(&mut self) {
        if std::mem::replace(&mut self.zookeeper.has_quorum, true) {
            return;
        }
        self.note("zk: there is a quorum again");
        for txn in std::mem::take(&mut self.zookeeper.late) {
            let lives = |id: i64| self.zookeeper.sessions.get(&id).is_some_and(|session| !session.over);
            if matches!(txn, Txn::Multi(id, _) if lives(id)) {
                let _ = self.commit(txn);
            }
        }
        self.prolong_sessions();
    }

    /// Ends a session at once, as if its time-out had passed.
    pub fn expire_sessions_of(&mut self, node: Node) {
        if !self.zookeeper.has_quorum {
            return;
        }
        let of_node = self.zookeeper.sessions.iter().filter(|(_, session)| session.owner == node && !session.over);
        let ids: Vec<i64> = of_node.map(|(id, _)| *id).collect();
        for id in ids {
            self.end_session(id);
            self.lose_connection(id);
        }
    }

    /// The ensemble got a new leader: to it all sessions were heard of just now.
    pub fn prolong_sessions(&mut self) {
        let now = self.now;
        self.zookeeper.sessions.values_mut().for_each(|session| session.last_heard = now);
    }

    /// Ends a session and lets its ephemeral nodes go.
    pub(super) fn end_session(&mut self, id: i64) {
        let Some(session) = self.zookeeper.sessions.get_mut(&id) else { return };
        if !std::mem::replace(&mut session.over, true) {
            let _ = self.commit(Txn::End(id));
        }
    }

    /// What time brings: heartbeats, expiries, reconnections. Called in every tick.
    pub fn keep_sessions(&mut self) {
        let ids: Vec<i64> = self.zookeeper.sessions.keys().copied().collect();
        for id in ids {
            self.keep_session(id);
        }
    }

    fn keep_session(&mut self, id: i64) {
        let now = self.now;
        let session = &self.zookeeper.sessions[&id];
        let (owner, life, over) = (session.owner, session.life, session.over);
        let awake = self.is_awake(owner, life);
        let reaches = awake && !self.zookeeper.unreachable.contains(&owner);
        if session.server.is_some() && !reaches && self.zookeeper.unreachable.contains(&owner) {
            self.lose_connection(id);
        }
        let Some(session) = self.zookeeper.sessions.get_mut(&id) else { return };
        if session.server.is_some() && awake {
            session.last_heard = now;
        } else if !over && self.zookeeper.has_quorum && now - session.last_heard > SESSION_TIMEOUT {
            self.note(&format!("zk: session {id} of {owner} has expired"));
            self.end_session(id);
        }
        let Some(session) = self.zookeeper.sessions.get_mut(&id) else { return };
        if *session.ended.borrow() {
            return;
        }
        if session.over && session.server.is_some() && awake {
            // Its server hung up when the session ended.
            self.lose_connection(id);
        } else if session.server.is_none() && awake && now - session.lost_at > SESSION_TIMEOUT * 7 / 5 {
            session.ended.send_replace(true);
        } else if session.server.is_none() && reaches && !std::mem::replace(&mut session.reconnecting, true) {
            let delay = self.pick((0, 100));
            self.after(delay, Box::new(move |core| core.reconnect(id)));
        }
    }

    fn reconnect(&mut self, id: i64) {
        let Some(session) = self.zookeeper.sessions.get_mut(&id) else { return };
        session.reconnecting = false;
        if *session.ended.borrow() {
            return;
        }
        let (owner, life, over, seen) = (session.owner, session.life, session.over, session.seen);
        let reaches = self.zookeeper.has_quorum && !self.zookeeper.unreachable.contains(&owner);
        if !self.is_awake(owner, life) || !reaches {
            return;
        }
        let server = self.rng.random_range(0..self.zookeeper.servers.len());
        let now = self.now;
        let Some(session) = self.zookeeper.sessions.get_mut(&id) else { return };
        if over {
            session.ended.send_replace(true);
            return;
        }
        // A client turns away from servers that are behind what it has seen.
        if self.zookeeper.servers[server].applied < seen {
            return;
        }
        session.server = Some(server);
        session.last_heard = now;
        self.note(&format!("zk: {owner} is back with session {id} on server {server}"));
        self.tell_missed(id, server, seen);
    }

    /// Watches of nodes that changed since the client last heard of its server.
    fn tell_missed(&mut self, id: i64, server: usize, seen: usize) {
        let seen = i64::try_from(seen).unwrap_or(i64::MAX);
        let tree = &self.zookeeper.servers[server].tree;
        let session = &self.zookeeper.sessions[&id];
        let missed: Vec<(Watching, WatchEvent)> = session
            .watches
            .values()
            .filter_map(|watch| {
                let kind = match (watch.watching, tree.stat(&watch.path)) {
                    (_, None) if watch.existed => WatchKind::Deleted,
                    (_, None) => return None,
                    (Watching::Data, Some(_)) if !watch.existed => WatchKind::Created,
                    (Watching::Data, Some(stat)) if stat.mzxid > seen => WatchKind::DataChanged,
                    (Watching::Children, Some(_)) if tree.children_changed(&watch.path) > Some(seen) => {
                        WatchKind::ChildrenChanged
                    }
                    _ => return None,
                };
                Some((watch.watching, WatchEvent { path: watch.path.clone(), kind }))
            })
            .collect();
        missed.iter().for_each(|fired| self.fire(id, fired));
    }
}
