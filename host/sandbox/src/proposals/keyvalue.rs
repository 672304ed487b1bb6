//! `wasi:keyvalue` in the versions that hosts have: 0.2.0-draft, of wasmCloud and wasmtime, and 0.2.0-draft2, of Spin, which has
//! compare-and-swap. What they do is in [`super::buckets`]; here are their types.

use wasmtime::component::{HasSelf, Linker, Resource};

use super::buckets::{Bucket, Cas, Error, Swap};
use crate::host::Host;
use wasmtime_wasi::WasiView;

/// Most bytes of keys and values that are got at once.
const MANY_MAX: usize = 16 << 20;

fn too_many() -> Error {
    Error::Other(format!(
        "the values are more than {} MiB: get fewer at once",
        MANY_MAX >> 20
    ))
}

/// Adds every version.
pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    draft::Imports::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    draft2::Imports::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)
}

impl Host {
    fn push_bucket(&mut self, identifier: &str) -> Result<Resource<Bucket>, Error> {
        let bucket = self.open_bucket(identifier)?;
        Ok(self.ctx().table.push(bucket)?)
    }

    fn bucket(&mut self, handle: &Resource<Bucket>) -> Result<Bucket, Error> {
        Ok(self.ctx().table.get(handle)?.clone())
    }
}

/// What is the same in every version.
macro_rules! store_and_batch {
    ($cursor:ty) => {
        use self::wasi::keyvalue::{atomics, batch, store};
        use super::*;

        impl store::Host for Host {
            fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Error> {
                self.push_bucket(&identifier)
            }

            fn convert_error(&mut self, error: Error) -> wasmtime::Result<store::Error> {
                match error {
                    Error::NoSuchStore => Ok(store::Error::NoSuchStore),
                    Error::AccessDenied => Ok(store::Error::AccessDenied),
                    Error::Other(why) => Ok(store::Error::Other(why)),
                    Error::Trap(error) => Err(error),
                }
            }
        }

        impl store::HostBucket for Host {
            fn get(&mut self, handle: Resource<Bucket>, key: String) -> Result<Option<Vec<u8>>, Error> {
                let bucket = self.bucket(&handle)?;
                self.get_key(&bucket, &key)
            }

            fn set(&mut self, handle: Resource<Bucket>, key: String, value: Vec<u8>) -> Result<(), Error> {
                let bucket = self.bucket(&handle)?;
                self.set_key(&bucket, &key, &value)
            }

            fn delete(&mut self, handle: Resource<Bucket>, key: String) -> Result<(), Error> {
                let bucket = self.bucket(&handle)?;
                self.delete_key(&bucket, &key)
            }

            fn exists(&mut self, handle: Resource<Bucket>, key: String) -> Result<bool, Error> {
                let bucket = self.bucket(&handle)?;
                Ok(self.get_key(&bucket, &key)?.is_some())
            }

            /// All on one page, after which there is nothing: as many as one answer of the daemon holds.
            fn list_keys(
                &mut self,
                handle: Resource<Bucket>,
                cursor: Option<$cursor>,
            ) -> Result<store::KeyResponse, Error> {
                let bucket = self.bucket(&handle)?;
                let keys = match cursor {
                    None => self.keys_of(&bucket)?,
                    Some(_) => Vec::new(),
                };
                Ok(store::KeyResponse { keys, cursor: None })
            }

            fn drop(&mut self, handle: Resource<Bucket>) -> wasmtime::Result<()> {
                self.ctx().table.delete(handle)?;
                Ok(())
            }
        }

        impl batch::Host for Host {
            fn get_many(
                &mut self,
                handle: Resource<Bucket>,
                keys: Vec<String>,
            ) -> Result<Vec<Option<(String, Vec<u8>)>>, Error> {
                let bucket = self.bucket(&handle)?;
                // A key can be asked for a million times, and each answer is held until all are there.
                let mut room = MANY_MAX;
                let get = |key: String| {
                    let Some(value) = self.get_key(&bucket, &key)? else {
                        return Ok(None);
                    };
                    room = room.checked_sub(key.len() + value.len()).ok_or_else(too_many)?;
                    Ok(Some((key, value)))
                };
                keys.into_iter().map(get).collect()
            }

            fn set_many(&mut self, handle: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
                let bucket = self.bucket(&handle)?;
                pairs
                    .iter()
                    .try_for_each(|(key, value)| self.set_key(&bucket, key, value))
            }

            fn delete_many(&mut self, handle: Resource<Bucket>, keys: Vec<String>) -> Result<(), Error> {
                let bucket = self.bucket(&handle)?;
                keys.iter().try_for_each(|key| self.delete_key(&bucket, key))
            }
        }
    };
}

mod draft {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue-draft",
        world: "wasi:keyvalue/imports",
        imports: { default: trappable },
        with: { "wasi:keyvalue/store.bucket": crate::proposals::buckets::Bucket },
        trappable_error_type: { "wasi:keyvalue/store.error" => crate::proposals::buckets::Error },
    });
    store_and_batch!(u64);

    impl atomics::Host for Host {
        fn increment(&mut self, handle: Resource<Bucket>, key: String, delta: u64) -> Result<u64, Error> {
            let bucket = self.bucket(&handle)?;
            self.add_to_key(&bucket, &key, delta)
        }
    }
}

mod draft2 {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue-draft2",
        world: "wasi:keyvalue/imports",
        imports: { default: trappable },
        with: {
            "wasi:keyvalue/store.bucket": crate::proposals::buckets::Bucket,
            "wasi:keyvalue/atomics.cas": crate::proposals::buckets::Cas,
        },
        trappable_error_type: { "wasi:keyvalue/store.error" => crate::proposals::buckets::Error },
    });
    store_and_batch!(String);

    use atomics::CasError;

    impl atomics::Host for Host {
        fn increment(&mut self, handle: Resource<Bucket>, key: String, delta: i64) -> Result<i64, Error> {
            let bucket = self.bucket(&handle)?;
            self.add_to_key(&bucket, &key, delta)
        }

        fn swap(&mut self, handle: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), CasError>> {
            let cas = self.ctx().table.delete(handle)?;
            match self.swap_key(cas, &value) {
                Ok(Swap::Done) => Ok(Ok(())),
                Ok(Swap::TooLate(again)) => Ok(Err(CasError::CasFailed(self.ctx().table.push(again)?))),
                Err(error) => Ok(Err(CasError::StoreError(store::Host::convert_error(self, error)?))),
            }
        }
    }

    impl atomics::HostCas for Host {
        fn new(&mut self, handle: Resource<Bucket>, key: String) -> Result<Resource<Cas>, Error> {
            let bucket = self.bucket(&handle)?;
            let cas = self.begin_swap(&bucket, &key)?;
            Ok(self.ctx().table.push(cas)?)
        }

        fn current(&mut self, handle: Resource<Cas>) -> Result<Option<Vec<u8>>, Error> {
            let path = self.ctx().table.get(&handle)?.path().to_owned();
            self.value_to_swap(&path)
        }

        fn drop(&mut self, handle: Resource<Cas>) -> wasmtime::Result<()> {
            self.ctx().table.delete(handle)?;
            Ok(())
        }
    }
}
