//! The epoll backend.
