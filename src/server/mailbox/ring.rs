//! The rings that mailboxes are made of: `rtrb`, or, where loom tries all orders of events, a model of what it promises.
//!
//! The model assumes of `rtrb` what its documentation says and its own tests check: one thread pushes and one pops,
//! without waiting; an element is published by a release store of the tail that the reader acquires, and its place
//! given back the same way. It promises no more than that, so whatever the mailboxes need beyond it must come from
//! their own fences.

#[cfg(not(loom))]
pub(super) use rtrb::{Consumer, Producer, RingBuffer};

#[cfg(loom)]
pub(super) use model::{Consumer, Producer, RingBuffer};

#[cfg(loom)]
mod model {
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use std::collections::VecDeque;
    use std::marker::PhantomData;
    use std::sync::{Arc, Mutex, PoisonError};

    struct Shared<T> {
        /// Loom does not see this lock, so it orders nothing in the model; loom runs one thread at a time.
        elements: Mutex<VecDeque<T>>,
        capacity: usize,
        /// Elements popped so far.
        head: AtomicUsize,
        /// Elements pushed so far.
        tail: AtomicUsize,
    }

    pub(crate) struct Producer<T>(Arc<Shared<T>>);
    pub(crate) struct Consumer<T>(Arc<Shared<T>>);
    pub(crate) struct RingBuffer<T>(PhantomData<T>);

    impl<T> RingBuffer<T> {
        #[expect(clippy::new_ret_no_self, reason = "as in rtrb")]
        pub(crate) fn new(capacity: usize) -> (Producer<T>, Consumer<T>) {
            let (elements, head, tail) = (Mutex::default(), AtomicUsize::new(0), AtomicUsize::new(0));
            let shared = Arc::new(Shared { elements, capacity, head, tail });
            (Producer(Arc::clone(&shared)), Consumer(shared))
        }
    }

    impl<T> Producer<T> {
        pub(crate) fn is_full(&self) -> bool {
            let (head, tail) = (self.0.head.load(Ordering::Acquire), self.0.tail.load(Ordering::Relaxed));
            tail - head == self.0.capacity
        }
        pub(crate) fn push(&mut self, element: T) -> Result<(), T> {
            if self.is_full() {
                return Err(element);
            }
            self.0.elements.lock().unwrap_or_else(PoisonError::into_inner).push_back(element);
            self.0.tail.store(self.0.tail.load(Ordering::Relaxed) + 1, Ordering::Release);
            Ok(())
        }
    }

    impl<T> Consumer<T> {
        pub(crate) fn is_empty(&self) -> bool {
            self.0.tail.load(Ordering::Acquire) == self.0.head.load(Ordering::Relaxed)
        }
        pub(crate) fn pop(&mut self) -> Result<T, ()> {
            if self.is_empty() {
                return Err(());
            }
            let element =
                self.0.elements.lock().unwrap_or_else(PoisonError::into_inner).pop_front().ok_or(())?;
            self.0.head.store(self.0.head.load(Ordering::Relaxed) + 1, Ordering::Release);
            Ok(element)
        }
    }
}
