//! THE table of the broker keys that are Kafka's and that Barnabas knows but does not act on, one line each, and of the
//! keys that Kafka 3.0 removed but a file written for 2.8 may still hold.

use super::broker_keys::default_of;
use super::def::{Importance, KeyDef, Kind, Mode, Support, Support::*, Valid::*};

/// key, kind default, what it must meet, importance mode, what becomes of it, doc;
macro_rules! known_keys {
    ($($name:literal, $kind:ident $default:tt, $valid:expr, $importance:ident $mode:ident, $support:expr, $doc:literal;)*) => {
        &[$(KeyDef {
            name: $name,
            kind: Kind::$kind,
            default: default_of!($default),
            valid: $valid,
            importance: Importance::$importance,
            mode: Mode::$mode,
            support: $support,
            doc: $doc,
        },)*]
    };
}

/// Keys of 2.8 that 3.0 removed. The first four still shape the listeners, as they did.
pub(super) static REMOVED_KEYS: &[KeyDef] = known_keys! {
    "host.name", String "", Any, High ReadOnly, Support::Acts, "The host to listen on when listeners is not set.";
    "port", Int "9092", Between(0, 65535), High ReadOnly, Support::Acts, "The port to listen on when listeners is not set.";
    "advertised.host.name", String null, Any, High ReadOnly, Support::Acts, "The host clients are told when advertised.listeners is not set.";
    "advertised.port", Int null, Between(0, 65535), High ReadOnly, Support::Acts, "The port clients are told when advertised.listeners is not set.";
    "quota.producer.default", Long "9223372036854775807", AtLeast(1), High ReadOnly, NotYet, "Bytes a second a client id may produce.";
    "quota.consumer.default", Long "9223372036854775807", AtLeast(1), High ReadOnly, NotYet, "Bytes a second a client id may fetch.";
    "zookeeper.sync.time.ms", Int "2000", Any, Low ReadOnly, Moot("nothing reads it since Kafka 0.9"), "How far a ZooKeeper follower may lag.";
};

/// Keys of 3.9 without effect here.
pub(super) static KNOWN_KEYS: &[KeyDef] = known_keys! {
    "early.start.listeners", String null, Any, High ReadOnly, NotYet, "Listeners that are opened before authorizers are ready.";
    "num.io.threads", Int "8", AtLeast(1), High ClusterWide, Moot("threads that wait for disks come and go as they are needed"), "Threads that may wait for disks at the same time.";
    "queued.max.requests", Int "500", AtLeast(1), High ReadOnly, Moot("requests are handled as they are read, so that none queue"), "Requests that may wait or run at one time before reading from connections pauses.";
    "background.threads", Int "10", AtLeast(1), High ClusterWide, Moot("background work shares one small runtime"), "Threads for odd jobs.";
    "connection.failed.authentication.delay.ms", Int "100", AtLeast(0), Low ReadOnly, NotYet, "How long the answer to a failed authentication is held back.";
    "connections.max.reauth.ms", Long "0", Any, Medium ReadOnly, NotYet, "How long a SASL login holds before the client must log in again.";
    "zookeeper.set.acl", Boolean "false", Any, High ReadOnly, Refused, "Whether znodes get ACLs.";
    "zookeeper.metadata.migration.enable", Boolean "false", Any, High ReadOnly, Refused, "Whether to hand the metadata over to KRaft.";
    "zookeeper.ssl.client.enable", Boolean "false", Any, Medium ReadOnly, Refused, "Whether to talk TLS to ZooKeeper.";
    "zookeeper.clientCnxnSocket", String null, Any, Medium ReadOnly, Moot("there are no Java classes here"), "The Java class of ZooKeeper's socket.";
    "zookeeper.ssl.cipher.suites", List null, Any, Low ReadOnly, NotYet, "TLS ciphers for ZooKeeper.";
    "zookeeper.ssl.crl.enable", Boolean "false", Any, Low ReadOnly, NotYet, "Whether ZooKeeper's certificate is checked against revocation lists.";
    "zookeeper.ssl.enabled.protocols", List null, Any, Low ReadOnly, NotYet, "TLS versions for ZooKeeper.";
    "zookeeper.ssl.endpoint.identification.algorithm", String "HTTPS", Any, Low ReadOnly, NotYet, "Whether ZooKeeper's host name is checked against its certificate.";
    "zookeeper.ssl.keystore.location", String null, Any, Medium ReadOnly, NotYet, "The key store with this broker's certificate for ZooKeeper.";
    "zookeeper.ssl.keystore.password", Password null, Any, Medium ReadOnly, NotYet, "The password of that key store.";
    "zookeeper.ssl.keystore.type", String null, Any, Medium ReadOnly, NotYet, "The format of that key store.";
    "zookeeper.ssl.ocsp.enable", Boolean "false", Any, Low ReadOnly, NotYet, "Whether ZooKeeper's certificate is checked by OCSP.";
    "zookeeper.ssl.protocol", String "TLSv1.2", Any, Low ReadOnly, NotYet, "The TLS version to start with towards ZooKeeper.";
    "zookeeper.ssl.truststore.location", String null, Any, Medium ReadOnly, NotYet, "The trust store for ZooKeeper's certificate.";
    "zookeeper.ssl.truststore.password", Password null, Any, Medium ReadOnly, NotYet, "The password of that trust store.";
    "zookeeper.ssl.truststore.type", String null, Any, Medium ReadOnly, NotYet, "The format of that trust store.";
    "eligible.leader.replicas.enable", Boolean "false", Any, High ReadOnly, NotYet, "Whether replicas outside the ISR that hold all committed records are tracked (KIP-966).";
    "log.dir.failure.timeout.ms", Long "30000", AtLeast(1), Low ReadOnly, NotYet, "Under KRaft, how long a broker whose failed folder cannot be reported stays up.";
    "log.local.retention.ms", Long "-2", AtLeast(-2), Medium ClusterWide, NotYet, "How long records of a tiered topic stay on the local disk.";
    "log.local.retention.bytes", Long "-2", AtLeast(-2), Medium ClusterWide, NotYet, "How many bytes of a tiered topic stay on the local disk.";
    "num.replica.alter.log.dirs.threads", Int null, Any, High ReadOnly, NotYet, "Threads that move replicas between folders.";
    "fetch.purgatory.purge.interval.requests", Int "1000", Any, Medium ReadOnly, Moot("finished ones leave at once"), "Waiting fetches between two clearings of finished ones.";
    "producer.purgatory.purge.interval.requests", Int "1000", Any, Medium ReadOnly, Moot("finished ones leave at once"), "Waiting produce requests between two clearings of finished ones.";
    "delete.records.purgatory.purge.interval.requests", Int "1", Any, Medium ReadOnly, Moot("finished ones leave at once"), "Waiting record deletions between two clearings of finished ones.";
    "max.request.partition.size.limit", Int "2000", AtLeast(1), Medium ReadOnly, NotYet, "Partitions in one answer to DescribeTopicPartitions.";
    "group.coordinator.threads", Int "1", AtLeast(1), Medium ReadOnly, NotYet, "Threads of the new group coordinator.";
    "group.coordinator.append.linger.ms", Int "10", AtLeast(0), Medium ReadOnly, NotYet, "How long the new group coordinator collects writes.";
    "group.coordinator.rebalance.protocols", List "classic", SomeOf(&["consumer", "classic", "share", "unknown"]), Medium ReadOnly, NotYet, "Rebalance protocols that are on.";
    "group.consumer.assignors", List "org.apache.kafka.coordinator.group.assignor.UniformAssignor,org.apache.kafka.coordinator.group.assignor.RangeAssignor", Any, Medium ReadOnly, NotYet, "Assignors of the consumer protocol.";
    "group.consumer.heartbeat.interval.ms", Int "5000", AtLeast(1), Medium ReadOnly, NotYet, "How often members of the consumer protocol call.";
    "group.consumer.max.heartbeat.interval.ms", Int "15000", AtLeast(1), Medium ReadOnly, NotYet, "The longest such interval a group may set.";
    "group.consumer.min.heartbeat.interval.ms", Int "5000", AtLeast(1), Medium ReadOnly, NotYet, "The shortest such interval a group may set.";
    "group.consumer.session.timeout.ms", Int "45000", AtLeast(1), Medium ReadOnly, NotYet, "A member of the consumer protocol silent for so long is out.";
    "group.consumer.max.session.timeout.ms", Int "60000", AtLeast(1), Medium ReadOnly, NotYet, "The longest such time-out a group may set.";
    "group.consumer.min.session.timeout.ms", Int "45000", AtLeast(1), Medium ReadOnly, NotYet, "The shortest such time-out a group may set.";
    "group.consumer.max.size", Int "2147483647", AtLeast(1), Medium ReadOnly, NotYet, "Members of one group of the consumer protocol.";
    "group.share.delivery.count.limit", Int "5", Between(2, 10), Medium ReadOnly, NotYet, "How often a share group delivers one record.";
    "group.share.heartbeat.interval.ms", Int "5000", AtLeast(1), Medium ReadOnly, NotYet, "How often members of share groups call.";
    "group.share.max.groups", Short "10", Between(1, 100), Medium ReadOnly, NotYet, "Share groups on one broker.";
    "group.share.max.heartbeat.interval.ms", Int "15000", AtLeast(1), Medium ReadOnly, NotYet, "The longest such interval a share group may set.";
    "group.share.max.record.lock.duration.ms", Int "60000", Between(30000, 3600000), Medium ReadOnly, NotYet, "The longest lock on a record a share group may set.";
    "group.share.max.session.timeout.ms", Int "60000", AtLeast(1), Medium ReadOnly, NotYet, "The longest session time-out a share group may set.";
    "group.share.max.size", Short "200", Between(10, 1000), Medium ReadOnly, NotYet, "Members of one share group.";
    "group.share.min.heartbeat.interval.ms", Int "5000", AtLeast(1), Medium ReadOnly, NotYet, "The shortest heartbeat interval a share group may set.";
    "group.share.min.record.lock.duration.ms", Int "15000", Between(1000, 30000), Medium ReadOnly, NotYet, "The shortest lock on a record a share group may set.";
    "group.share.min.session.timeout.ms", Int "45000", AtLeast(1), Medium ReadOnly, NotYet, "The shortest session time-out a share group may set.";
    "group.share.partition.max.record.locks", Int "200", Between(100, 10000), Medium ReadOnly, NotYet, "Records of one partition a share group may have locked.";
    "group.share.record.lock.duration.ms", Int "30000", Between(1000, 60000), Medium ReadOnly, NotYet, "How long a share group's record stays locked.";
    "group.share.session.timeout.ms", Int "45000", AtLeast(1), Medium ReadOnly, NotYet, "A share group's member silent for so long is out.";
    "quota.window.num", Int "11", AtLeast(1), Low ReadOnly, NotYet, "Samples that client quotas keep.";
    "quota.window.size.seconds", Int "1", AtLeast(1), Low ReadOnly, NotYet, "How long such a sample is.";
    "controller.quota.window.num", Int "11", AtLeast(1), Low ReadOnly, NotYet, "Samples that the quota for topic changes keeps.";
    "controller.quota.window.size.seconds", Int "1", AtLeast(1), Low ReadOnly, NotYet, "How long such a sample is.";
    "client.quota.callback.class", Class null, Any, Low ReadOnly, Refused, "A class that decides on quotas.";
    "create.topic.policy.class.name", Class null, Any, Low ReadOnly, Refused, "A class that decides which topics may be created.";
    "alter.config.policy.class.name", Class null, Any, Low ReadOnly, Refused, "A class that decides which configs may be altered.";
    "authorizer.class.name", String "", Any, Low ReadOnly, Refused, "A class that decides who may do what.";
    "principal.builder.class", Class "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder", Any, Medium PerBroker, Refused, "A class that names who is connected.";
    "security.providers", String null, Any, Low ReadOnly, NotYet, "Java security providers.";
    "delegation.token.master.key", Password null, Any, Medium ReadOnly, NotYet, "The old name of delegation.token.secret.key.";
    "delegation.token.secret.key", Password null, Any, Medium ReadOnly, NotYet, "The secret that signs delegation tokens.";
    "delegation.token.max.lifetime.ms", Long "604800000", AtLeast(1), Medium ReadOnly, NotYet, "How long a delegation token can be renewed.";
    "delegation.token.expiry.time.ms", Long "86400000", AtLeast(1), Medium ReadOnly, NotYet, "How long a delegation token holds without renewal.";
    "delegation.token.expiry.check.interval.ms", Long "3600000", AtLeast(1), Low ReadOnly, NotYet, "How often tokens are looked over for what has expired.";
    "password.encoder.secret", Password null, Any, Medium ReadOnly, NotYet, "The secret that encrypts passwords kept in ZooKeeper.";
    "password.encoder.old.secret", Password null, Any, Medium ReadOnly, NotYet, "The secret before it was changed.";
    "password.encoder.keyfactory.algorithm", String null, Any, Low ReadOnly, NotYet, "How the key is derived from that secret.";
    "password.encoder.cipher.algorithm", String "AES/CBC/PKCS5Padding", Any, Low ReadOnly, NotYet, "The cipher for those passwords.";
    "password.encoder.key.length", Int "128", AtLeast(8), Low ReadOnly, NotYet, "Bits of the key.";
    "password.encoder.iterations", Int "4096", AtLeast(1024), Low ReadOnly, NotYet, "Rounds of the derivation.";
    "metric.reporters", List "", Any, Low ClusterWide, NotYet, "Java classes that report metrics.";
    "metrics.num.samples", Int "2", AtLeast(1), Low ReadOnly, NotYet, "Samples that metrics keep.";
    "metrics.sample.window.ms", Long "30000", AtLeast(1), Low ReadOnly, NotYet, "How long such a sample is.";
    "metrics.recording.level", String "INFO", Any, Low ReadOnly, NotYet, "How much is measured.";
    "kafka.metrics.reporters", List "", Any, Low ReadOnly, NotYet, "Java classes that report the broker's own metrics.";
    "kafka.metrics.polling.interval.secs", Int "10", AtLeast(1), Low ReadOnly, NotYet, "How often they do.";
    "auto.include.jmx.reporter", Boolean "true", Any, Low ReadOnly, NotYet, "Whether metrics show in JMX without being asked for.";
    "telemetry.max.bytes", Int "1048576", AtLeast(1), Low ReadOnly, NotYet, "The largest push of client telemetry.";
    "process.roles", List "", SomeOf(&["broker", "controller"]), High ReadOnly, Refused, "KRaft roles of this process. Barnabas works with ZooKeeper.";
    "controller.listener.names", String null, Any, High ReadOnly, NotYet, "Listeners of KRaft controllers.";
    "controller.quorum.append.linger.ms", Int "25", Any, Medium ReadOnly, NotYet, "How long a KRaft leader collects writes.";
    "controller.quorum.bootstrap.servers", List "", Any, High ReadOnly, NotYet, "Where a KRaft broker finds the quorum.";
    "controller.quorum.election.backoff.max.ms", Int "1000", Any, High ReadOnly, NotYet, "The longest rest between KRaft elections.";
    "controller.quorum.election.timeout.ms", Int "1000", Any, High ReadOnly, NotYet, "How long a KRaft candidate waits for votes.";
    "controller.quorum.fetch.timeout.ms", Int "2000", Any, High ReadOnly, NotYet, "How long a KRaft follower waits for its leader.";
    "controller.quorum.request.timeout.ms", Int "2000", Any, Medium ReadOnly, NotYet, "How long a KRaft request may take.";
    "controller.quorum.retry.backoff.ms", Int "20", Any, Low ReadOnly, NotYet, "How long KRaft rests before trying again.";
    "controller.quorum.voters", List "", Any, High ReadOnly, NotYet, "The KRaft voters.";
    "broker.heartbeat.interval.ms", Int "2000", Any, Medium ReadOnly, NotYet, "How often a KRaft broker calls its controller.";
    "broker.session.timeout.ms", Int "9000", Any, Medium ReadOnly, NotYet, "A KRaft broker silent for so long is fenced.";
    "initial.broker.registration.timeout.ms", Int "60000", Any, Medium ReadOnly, NotYet, "How long a KRaft broker may take to register.";
    "metadata.log.dir", String null, Any, High ReadOnly, NotYet, "Where the KRaft metadata log is kept.";
    "metadata.log.max.record.bytes.between.snapshots", Long "20971520", AtLeast(1), High ReadOnly, NotYet, "Bytes of the KRaft metadata log between snapshots.";
    "metadata.log.max.snapshot.interval.ms", Long "3600000", AtLeast(0), High ReadOnly, NotYet, "The time between snapshots of the KRaft metadata log.";
    "metadata.log.segment.bytes", Int "1073741824", AtLeast(12), High ReadOnly, NotYet, "The segment size of the KRaft metadata log.";
    "metadata.log.segment.ms", Long "604800000", Any, High ReadOnly, NotYet, "The age at which a segment of the KRaft metadata log is rolled.";
    "metadata.max.idle.interval.ms", Int "500", AtLeast(0), Low ReadOnly, NotYet, "How often an idle KRaft controller writes a no-op.";
    "metadata.max.retention.bytes", Long "104857600", Any, High ReadOnly, NotYet, "How large the KRaft metadata log may become.";
    "metadata.max.retention.ms", Long "604800000", Any, High ReadOnly, NotYet, "How long the KRaft metadata log is kept.";
    "remote.fetch.max.wait.ms", Int "500", AtLeast(1), Medium ClusterWide, NotYet, "How long a fetch waits for remote storage.";
    "remote.log.index.file.cache.total.size.bytes", Long "1073741824", AtLeast(1), Low ClusterWide, NotYet, "Disk for indexes brought back from remote storage.";
    "remote.log.manager.copier.thread.pool.size", Int "-1", AtLeast(-1), Medium ReadOnly, NotYet, "Threads that copy segments to remote storage.";
    "remote.log.manager.copy.max.bytes.per.second", Long "9223372036854775807", AtLeast(1), Medium ClusterWide, NotYet, "Bytes a second copied to remote storage.";
    "remote.log.manager.copy.quota.window.num", Int "11", AtLeast(1), Medium ReadOnly, NotYet, "Samples that this quota keeps.";
    "remote.log.manager.copy.quota.window.size.seconds", Int "1", AtLeast(1), Medium ReadOnly, NotYet, "How long such a sample is.";
    "remote.log.manager.expiration.thread.pool.size", Int "-1", AtLeast(-1), Medium ReadOnly, NotYet, "Threads that remove expired segments from remote storage.";
    "remote.log.manager.fetch.max.bytes.per.second", Long "9223372036854775807", AtLeast(1), Medium ClusterWide, NotYet, "Bytes a second fetched from remote storage.";
    "remote.log.manager.fetch.quota.window.num", Int "11", AtLeast(1), Medium ReadOnly, NotYet, "Samples that this quota keeps.";
    "remote.log.manager.fetch.quota.window.size.seconds", Int "1", AtLeast(1), Medium ReadOnly, NotYet, "How long such a sample is.";
    "remote.log.manager.task.interval.ms", Long "30000", AtLeast(1), Low ReadOnly, NotYet, "How often the remote log manager's tasks run.";
    "remote.log.manager.thread.pool.size", Int "10", AtLeast(1), Medium ReadOnly, NotYet, "Threads of the remote log manager.";
    "remote.log.metadata.custom.metadata.max.bytes", Int "128", AtLeast(0), Low ReadOnly, NotYet, "The largest note a remote storage may keep with a segment.";
    "remote.log.metadata.manager.class.name", String "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager", NonEmpty, Medium ReadOnly, NotYet, "The class that keeps the metadata of remote segments.";
    "remote.log.metadata.manager.class.path", String null, Any, Medium ReadOnly, NotYet, "Where that class is found.";
    "remote.log.metadata.manager.impl.prefix", String "rlmm.config.", NonEmpty, Medium ReadOnly, NotYet, "The prefix of its own configs.";
    "remote.log.metadata.manager.listener.name", String null, NonEmpty, Medium ReadOnly, NotYet, "The listener it connects to.";
    "remote.log.reader.max.pending.tasks", Int "100", AtLeast(1), Medium ReadOnly, NotYet, "Remote reads that may wait.";
    "remote.log.reader.threads", Int "10", AtLeast(1), Medium ReadOnly, NotYet, "Threads that read from remote storage.";
    "remote.log.storage.manager.class.name", String null, NonEmpty, Medium ReadOnly, NotYet, "The class that speaks to the remote storage.";
    "remote.log.storage.manager.class.path", String null, Any, Medium ReadOnly, NotYet, "Where that class is found.";
    "remote.log.storage.manager.impl.prefix", String "rsm.config.", NonEmpty, Medium ReadOnly, NotYet, "The prefix of its own configs.";
    "remote.log.storage.system.enable", Boolean "false", Any, Medium ReadOnly, Refused, "Whether old segments move to remote storage.";
    "sasl.client.callback.handler.class", Class null, Any, Medium ReadOnly, NotYet, "The class that answers a SASL client's questions.";
    "sasl.enabled.mechanisms", List "GSSAPI", Any, Medium PerBroker, NotYet, "SASL mechanisms that are on.";
    "sasl.jaas.config", Password null, Any, Medium PerBroker, NotYet, "JAAS configuration of a listener.";
    "sasl.kerberos.kinit.cmd", String "/usr/bin/kinit", Any, Medium PerBroker, NotYet, "Where kinit is.";
    "sasl.kerberos.min.time.before.relogin", Long "60000", Any, Medium PerBroker, NotYet, "How long a Kerberos login lasts at least before the next.";
    "sasl.kerberos.principal.to.local.rules", List "DEFAULT", Any, Medium PerBroker, NotYet, "Rules from Kerberos principals to short names.";
    "sasl.kerberos.service.name", String null, Any, Medium PerBroker, NotYet, "The Kerberos service brokers run as.";
    "sasl.kerberos.ticket.renew.jitter", Double "0.05", Any, Medium PerBroker, NotYet, "How much chance is in the time of renewal.";
    "sasl.kerberos.ticket.renew.window.factor", Double "0.8", Any, Medium PerBroker, NotYet, "The share of a ticket's life after which it is renewed.";
    "sasl.login.callback.handler.class", Class null, Any, Medium ReadOnly, NotYet, "The class that answers a SASL login's questions.";
    "sasl.login.class", Class null, Any, Medium ReadOnly, NotYet, "The class that logs in.";
    "sasl.login.connect.timeout.ms", Int null, Any, Low ReadOnly, NotYet, "How long connecting to the token provider may take.";
    "sasl.login.read.timeout.ms", Int null, Any, Low ReadOnly, NotYet, "How long reading from the token provider may take.";
    "sasl.login.refresh.buffer.seconds", Short "300", Any, Medium PerBroker, NotYet, "How long before its end a token is refreshed at the latest.";
    "sasl.login.refresh.min.period.seconds", Short "60", Any, Medium PerBroker, NotYet, "How long to wait at least between refreshes.";
    "sasl.login.refresh.window.factor", Double "0.8", Any, Medium PerBroker, NotYet, "The share of a token's life after which it is refreshed.";
    "sasl.login.refresh.window.jitter", Double "0.05", Any, Medium PerBroker, NotYet, "How much chance is in the time of refresh.";
    "sasl.login.retry.backoff.max.ms", Long "10000", Any, Low ReadOnly, NotYet, "The longest rest between logins.";
    "sasl.login.retry.backoff.ms", Long "100", Any, Low ReadOnly, NotYet, "The first rest between logins.";
    "sasl.mechanism.controller.protocol", String "GSSAPI", Any, High ReadOnly, NotYet, "The SASL mechanism towards KRaft controllers.";
    "sasl.mechanism.inter.broker.protocol", String "GSSAPI", Any, Medium PerBroker, NotYet, "The SASL mechanism among brokers.";
    "sasl.oauthbearer.clock.skew.seconds", Int "30", Any, Low ReadOnly, NotYet, "How far clocks may differ when a token is checked.";
    "sasl.oauthbearer.expected.audience", List null, Any, Low ReadOnly, NotYet, "Audiences a token must name one of.";
    "sasl.oauthbearer.expected.issuer", String null, Any, Low ReadOnly, NotYet, "The issuer a token must name.";
    "sasl.oauthbearer.jwks.endpoint.refresh.ms", Long "3600000", Any, Low ReadOnly, NotYet, "How often the issuer's keys are fetched.";
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", Long "10000", Any, Low ReadOnly, NotYet, "The longest rest between fetches of keys.";
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", Long "100", Any, Low ReadOnly, NotYet, "The first rest between fetches of keys.";
    "sasl.oauthbearer.jwks.endpoint.url", String null, Any, Medium ReadOnly, NotYet, "Where the issuer's keys are.";
    "sasl.oauthbearer.scope.claim.name", String "scope", Any, Low ReadOnly, NotYet, "The claim that holds the scope.";
    "sasl.oauthbearer.sub.claim.name", String "sub", Any, Low ReadOnly, NotYet, "The claim that holds the subject.";
    "sasl.oauthbearer.token.endpoint.url", String null, Any, Medium ReadOnly, NotYet, "Where tokens are issued.";
    "sasl.server.callback.handler.class", Class null, Any, Medium ReadOnly, NotYet, "The class that answers a SASL server's questions.";
    "sasl.server.max.receive.size", Int "524288", Any, Medium ReadOnly, NotYet, "The longest SASL message taken before a login.";
    "ssl.allow.dn.changes", Boolean "false", Any, Low ReadOnly, NotYet, "Whether a new certificate may have another distinguished name.";
    "ssl.allow.san.changes", Boolean "false", Any, Low ReadOnly, NotYet, "Whether a new certificate may lack old alternative names.";
    "ssl.cipher.suites", List "", Any, Medium PerBroker, NotYet, "TLS ciphers that are on.";
    "ssl.client.auth", String "none", OneOf(&["required", "requested", "none"]), Medium PerBroker, NotYet, "Whether clients must show a certificate.";
    "ssl.enabled.protocols", List "TLSv1.2,TLSv1.3", Any, Medium PerBroker, NotYet, "TLS versions that are on.";
    "ssl.endpoint.identification.algorithm", String "https", Any, Low PerBroker, NotYet, "Whether a server's host name is checked against its certificate.";
    "ssl.engine.factory.class", Class null, Any, Low PerBroker, NotYet, "The class that makes TLS engines.";
    "ssl.key.password", Password null, Any, Medium PerBroker, NotYet, "The password of the private key.";
    "ssl.keymanager.algorithm", String "SunX509", Any, Medium PerBroker, NotYet, "The algorithm of the key manager.";
    "ssl.keystore.certificate.chain", Password null, Any, Medium PerBroker, NotYet, "The certificate chain as PEM.";
    "ssl.keystore.key", Password null, Any, Medium PerBroker, NotYet, "The private key as PEM.";
    "ssl.keystore.location", String null, Any, Medium PerBroker, NotYet, "The file of the key store.";
    "ssl.keystore.password", Password null, Any, Medium PerBroker, NotYet, "The password of the key store.";
    "ssl.keystore.type", String "JKS", Any, Medium PerBroker, NotYet, "The format of the key store.";
    "ssl.principal.mapping.rules", String "DEFAULT", Any, Low ReadOnly, NotYet, "Rules from distinguished names to short names.";
    "ssl.protocol", String "TLSv1.3", Any, Medium PerBroker, NotYet, "The TLS version to start with.";
    "ssl.provider", String null, Any, Medium PerBroker, NotYet, "The Java security provider for TLS.";
    "ssl.secure.random.implementation", String null, Any, Low PerBroker, NotYet, "The source of random numbers for TLS.";
    "ssl.trustmanager.algorithm", String "PKIX", Any, Medium PerBroker, NotYet, "The algorithm of the trust manager.";
    "ssl.truststore.certificates", Password null, Any, Medium PerBroker, NotYet, "Trusted certificates as PEM.";
    "ssl.truststore.location", String null, Any, Medium PerBroker, NotYet, "The file of the trust store.";
    "ssl.truststore.password", Password null, Any, Medium PerBroker, NotYet, "The password of the trust store.";
    "ssl.truststore.type", String "JKS", Any, Medium PerBroker, NotYet, "The format of the trust store.";
};
