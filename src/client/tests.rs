//! The client against a scripted server on a local socket.
