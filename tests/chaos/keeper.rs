//! The one who writes the znodes, and reads in the end what they are: a client of its own, connected to the servers directly.
//!
//! A thread with its own runtime, so that the session lives on while the suite waits for other things.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error};

use super::oracle::{Below, Final};
use super::plan::Write;
use super::watches::{Node, ROOT, WATCHES, Watch};

/// How long a write may take. Without a quorum it fails, and nobody knows whether it will have happened.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// How long reading or setting up everything may take, on a busy machine.
const READING: Duration = Duration::from_secs(20);

/// Most children that a znode has whose watch tells of all of them.
const MANY: usize = 8;

enum Request {
    Write {
        watch: &'static Watch,
        write: Write,
        tag: String,
        done: mpsc::Sender<bool>,
    },
    Permission {
        watch: &'static Watch,
        give: bool,
        tag: String,
        done: mpsc::Sender<bool>,
    },
    Leave(mpsc::Sender<()>),
    SetUp {
        tag: String,
        done: mpsc::Sender<Option<Vec<Transactions>>>,
    },
    Read(mpsc::Sender<Option<Vec<Final>>>),
}

/// What created a znode, and what set it last.
pub type Transactions = (i64, i64);

/// Who the one who writes is: what everybody else may lose, it keeps.
const IDENTITY: &[u8] = b"keeper:chaos";

/// See the module's documentation.
pub struct Keeper {
    requests: UnboundedSender<Request>,
}

impl Keeper {
    /// Connects to these servers and creates a znode for each watch.
    pub fn start(servers: String) -> Self {
        let (requests, queue) = unbounded_channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let mut worker = Worker {
                servers,
                client: None,
                taken: None,
            };
            runtime.block_on(worker.serve(queue));
        });
        let keeper = Self { requests };
        assert!(keeper.set_up("first").is_some(), "cannot create the znodes");
        keeper
    }

    /// Writes; says whether that is known to have happened. `tag` makes the data and names unique.
    pub fn write(&self, watch: &'static Watch, write: Write, tag: &str) -> bool {
        let (done, answer) = mpsc::channel();
        let tag = tag.to_owned();
        let request = Request::Write {
            watch,
            write,
            tag,
            done,
        };
        self.requests.send(request).ok().unwrap();
        answer.recv().unwrap()
    }

    /// Takes from everybody else the permission for the znode of a watch, or one of its subtree, and changes it then; or gives back what was
    /// taken, and changes it again. Says whether that is known to have happened.
    pub fn permission(&self, watch: &'static Watch, give: bool, tag: &str) -> bool {
        let (done, answer) = mpsc::channel();
        let tag = tag.to_owned();
        let request = Request::Permission { watch, give, tag, done };
        self.requests.send(request).ok().unwrap();
        answer.recv().unwrap()
    }

    /// Ends the session.
    pub fn leave(&self) {
        let (done, answer) = mpsc::channel();
        self.requests.send(Request::Leave(done)).ok().unwrap();
        answer.recv().unwrap();
    }

    /// Creates the znodes of all watches at servers that have none, always by the same steps; gives what transactions these were, unless
    /// something failed. Only what is in the znodes is other, by the `tag`.
    pub fn set_up(&self, tag: &str) -> Option<Vec<Transactions>> {
        let (done, answer) = mpsc::channel();
        let tag = tag.to_owned();
        self.requests.send(Request::SetUp { tag, done }).ok().unwrap();
        answer.recv().unwrap()
    }

    /// The znodes as they are now, in the order of [`WATCHES`]; none when the servers do not answer.
    pub fn read(&self) -> Option<Vec<Final>> {
        let (done, answer) = mpsc::channel();
        self.requests.send(Request::Read(done)).ok().unwrap();
        answer.recv().unwrap()
    }
}

struct Worker {
    servers: String,
    client: Option<Client>,
    /// The znode that nobody else has permission for.
    taken: Option<String>,
}

impl Worker {
    async fn serve(&mut self, mut queue: UnboundedReceiver<Request>) {
        while let Some(request) = queue.recv().await {
            match request {
                Request::Write {
                    watch,
                    write,
                    tag,
                    done,
                } => {
                    let written = timeout(PATIENCE, self.write(watch, write, &tag)).await;
                    let _ = done.send(self.trust(written).is_some());
                }
                Request::Permission { watch, give, tag, done } => {
                    let changed = timeout(PATIENCE, self.permission(watch, give, &tag)).await;
                    let _ = done.send(self.trust(changed).is_some());
                }
                Request::Leave(done) => {
                    self.client = None;
                    let _ = done.send(());
                }
                Request::SetUp { tag, done } => {
                    let set_up = timeout(READING, self.set_up(&tag)).await;
                    let _ = done.send(self.trust(set_up));
                }
                Request::Read(done) => {
                    let read = timeout(READING, self.read()).await;
                    let _ = done.send(self.trust(read));
                }
            }
        }
    }

    /// A client that did not do as asked is not asked again: what it still has to send must not be sent later.
    fn trust<T>(&mut self, result: Result<Result<T, Error>, tokio::time::error::Elapsed>) -> Option<T> {
        let result = result.ok().and_then(Result::ok);
        if result.is_none() {
            self.client = None;
        }
        result
    }

    async fn client(&mut self) -> Result<Client, Error> {
        if self.client.is_none() {
            let connector = Client::connector().with_auth("digest", IDENTITY);
            self.client = Some(connector.connect(&self.servers).await?);
        }
        self.client.clone().ok_or(Error::ClientClosed)
    }

    async fn write(&mut self, watch: &Watch, write: Write, tag: &str) -> Result<(), Error> {
        let client = self.client().await?;
        let znode = watch.written(tag);
        match write {
            Write::Set => set(&client, watch, tag).await,
            Write::Burst(count) => {
                for i in 0..count {
                    set(&client, watch, &format!("{tag}.{i}")).await?;
                }
                Ok(())
            }
            Write::Delete => remove(&client, &znode).await,
            Write::Recreate => {
                remove(&client, &znode).await?;
                ensure(&client, &znode, tag).await?;
                if watch.node == Node::Children {
                    ensure(&client, &format!("{znode}/{tag}"), "").await?;
                }
                Ok(())
            }
            Write::AddChild => {
                ensure(&client, &znode, tag).await?;
                ensure(&client, &format!("{znode}/{tag}"), tag).await?;
                // What an action is told of all of them stays small.
                match watch.payload && children(&client, &znode).await?.len() > MANY {
                    true => remove_oldest_child(&client, &znode).await,
                    false => Ok(()),
                }
            }
            Write::RemoveChild => remove_oldest_child(&client, &znode).await,
        }
    }

    async fn permission(&mut self, watch: &Watch, give: bool, tag: &str) -> Result<(), Error> {
        let client = self.client().await?;
        let znode = match (&self.taken, give) {
            (Some(taken), _) => taken.clone(),
            (None, true) => return Ok(()),
            (None, false) => settable(&client, watch, tag).await?,
        };
        if !give {
            ensure(&client, &znode, tag).await?;
            self.taken = Some(znode.clone());
        }
        let acls = if give { Acls::anyone_all() } else { Acls::creator_all() };
        if_there(client.set_acl(&znode, &acls, None).await.map(drop))?;
        match watch.node {
            Node::Children => ensure(&client, &format!("{znode}/{tag}"), tag).await?,
            Node::Data | Node::Tree => if_there(client.set_data(&znode, tag.as_bytes(), None).await.map(drop))?,
        }
        if give {
            self.taken = None;
        }
        Ok(())
    }

    async fn set_up(&mut self, tag: &str) -> Result<Vec<Transactions>, Error> {
        let client = self.client().await?;
        let mut transactions = Vec::new();
        for (watch, znode) in znodes() {
            ensure(&client, &znode, tag).await?;
            if watch.node != Node::Data {
                ensure(&client, &format!("{znode}/{tag}"), tag).await?;
            }
            let (_, stat) = client.get_data(&znode).await?;
            transactions.push((stat.czxid, stat.mzxid));
        }
        Ok(transactions)
    }

    async fn read(&mut self) -> Result<Vec<Final>, Error> {
        let client = self.client().await?;
        client.sync(ROOT).await?;
        let mut all = Vec::new();
        for watch in WATCHES {
            let mut each = Vec::new();
            for znode in watch.znodes() {
                let state = absent_if_gone(state(&client, watch.node, &znode).await)?;
                each.push((znode, state));
            }
            all.push(match each.len() {
                1 => each.remove(0).1,
                _ => Final::Several(each),
            });
        }
        Ok(all)
    }
}

fn absent_if_gone(state: Result<Final, Error>) -> Result<Final, Error> {
    match state {
        Err(Error::NoNode) => Ok(Final::Absent),
        other => other,
    }
}

/// Every znode, with its watch.
fn znodes() -> impl Iterator<Item = (&'static Watch, String)> {
    WATCHES
        .iter()
        .flat_map(|watch| watch.znodes().into_iter().map(move |znode| (watch, znode)))
}

async fn state(client: &Client, node: Node, znode: &str) -> Result<Final, Error> {
    match node {
        Node::Data => {
            let (data, stat) = client.get_data(znode).await?;
            Ok(Final::Data {
                mzxid: stat.mzxid,
                data: String::from_utf8_lossy(&data).into_owned(),
            })
        }
        Node::Children => {
            let mut names = client.list_children(znode).await?;
            names.sort();
            Ok(Final::Children(names))
        }
        Node::Tree => {
            let names = client.list_children(znode).await?;
            let mut paths = vec![znode.to_owned()];
            paths.extend(names.into_iter().map(|name| format!("{znode}/{name}")));
            let mut all = Vec::new();
            for path in paths {
                let (data, stat) = client.get_data(&path).await?;
                all.push(Below {
                    path,
                    since: stat.mtime.max(0) as u64,
                    mzxid: stat.mzxid,
                    data: String::from_utf8_lossy(&data).into_owned(),
                });
            }
            Ok(Final::Tree(all))
        }
    }
}

/// Sets the data of the znode, or of one in its subtree.
async fn set(client: &Client, watch: &Watch, tag: &str) -> Result<(), Error> {
    let path = settable(client, watch, tag).await?;
    match client.set_data(&path, tag.as_bytes(), None).await {
        Err(Error::NoNode) => ensure(client, &path, tag).await,
        other => other.map(drop),
    }
}

async fn settable(client: &Client, watch: &Watch, tag: &str) -> Result<String, Error> {
    let znode = watch.written(tag);
    Ok(match (watch.node, oldest_child(client, &znode).await?) {
        (Node::Tree, Some(child)) => format!("{znode}/{child}"),
        _ => znode,
    })
}

async fn oldest_child(client: &Client, znode: &str) -> Result<Option<String>, Error> {
    Ok(children(client, znode).await?.into_iter().min())
}

async fn children(client: &Client, znode: &str) -> Result<Vec<String>, Error> {
    match client.list_children(znode).await {
        Err(Error::NoNode) => Ok(Vec::new()),
        other => other,
    }
}

async fn remove_oldest_child(client: &Client, znode: &str) -> Result<(), Error> {
    match oldest_child(client, znode).await? {
        Some(name) => remove(client, &format!("{znode}/{name}")).await,
        None => Ok(()),
    }
}

async fn ensure(client: &Client, path: &str, data: &str) -> Result<(), Error> {
    let options: CreateOptions<'_> = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    if !parent.is_empty() {
        client.mkdir(parent, &options).await?;
    }
    match client.create(path, data.as_bytes(), &options).await {
        Err(Error::NodeExists) => Ok(()),
        other => other.map(drop),
    }
}

async fn remove(client: &Client, path: &str) -> Result<(), Error> {
    let names = match client.list_children(path).await {
        Ok(names) => names,
        Err(Error::NoNode) => return Ok(()),
        Err(error) => return Err(error),
    };
    // One level: no more is ever made.
    for name in names {
        if_there(client.delete(&format!("{path}/{name}"), None).await)?;
    }
    if_there(client.delete(path, None).await)
}

fn if_there(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::NoNode) => Ok(()),
        other => other,
    }
}
