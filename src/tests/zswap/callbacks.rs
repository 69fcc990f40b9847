//! Callbacks: slow, hostile, panicking; and who waits for them, and who does not.
