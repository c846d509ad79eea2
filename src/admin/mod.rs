//! What writes to ZooKeeper on a user's behalf: topics, their partitions, their configs. Decides nothing of leaders: the
//! controller sees the znodes change and acts. (Being written by the lead engineer together with the api handlers
//! create_topics, delete_topics, create_partitions.)
