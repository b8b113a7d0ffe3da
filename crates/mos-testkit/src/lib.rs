//! Contracts, fakes and a scripted model server for tests of the mos memory system.
