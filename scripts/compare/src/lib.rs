//! What `scripts/compare.sh` measures tskv against, apart from the servers that Debian packages: the walls that the
//! machine sets, engines that are linked in, and one generator of samples that feeds all of them.

pub mod data;
pub mod embedded;
pub mod native;
pub mod network;
pub mod rocksdb;
