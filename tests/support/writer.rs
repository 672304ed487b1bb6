//! Another client of ZooKeeper: who changes what the daemon under test watches.

use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Permission};

use super::zookeeper::ZooKeeperServer;

/// Another client. It connects for each write, so that it needs no thread to keep a session alive.
#[derive(Debug)]
pub struct Writer {
    address: String,
}

impl Writer {
    pub fn new(server: &ZooKeeperServer) -> Self {
        Self {
            address: server.address(),
        }
    }

    fn write<T>(&self, write: impl AsyncFnOnce(Client) -> Result<T, zookeeper_client::Error>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime
            .block_on(async { write(Client::connect(&self.address).await?).await })
            .unwrap();
    }

    pub fn create(&self, path: &str, data: &str) {
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        self.write(async |client| client.create(path, data.as_bytes(), &options).await);
    }

    /// Creates a node whose data nobody may read.
    pub fn create_unreadable(&self, path: &str, data: &str) {
        let acl = [Acl::new(Permission::WRITE | Permission::DELETE, AuthId::anyone())];
        let options = CreateMode::Persistent.with_acls(Acls::new(&acl));
        self.write(async |client| client.create(path, data.as_bytes(), &options).await);
    }

    pub fn set(&self, path: &str, data: &str) {
        self.write(async |client| client.set_data(path, data.as_bytes(), None).await);
    }

    pub fn delete(&self, path: &str) {
        self.write(async |client| client.delete(path, None).await);
    }
}
