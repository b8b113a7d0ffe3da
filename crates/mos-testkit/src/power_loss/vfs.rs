//! `SQLite`'s file layer, in C's terms, on a [`DiskState`](super::disk::DiskState).
//!
//! Invariant: `SQLite` calls a method of a file only between a successful `open` and `close` of that file, and with
//! pointers that are valid for the call, as its interface promises.

#![allow(unsafe_code, reason = "the file layer of SQLite is an interface of C functions and raw pointers")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::Arc;

use rusqlite::ffi::{self, sqlite3_file, sqlite3_io_methods, sqlite3_vfs};

use super::Shared;
use super::disk::{DiskState, HandleId};

const MAX_PATH: c_int = 1024;

/// What `SQLite` keeps per open file; it owns the memory, we own what `open_file` points to.
#[repr(C)]
struct FileSlot {
    base: sqlite3_file,
    open_file: *mut OpenFile,
}

struct OpenFile {
    disk: Arc<Shared>,
    name: String,
    epoch: u64,
    handle: HandleId,
    remove_on_close: bool,
    /// Temporary files have nothing to lose: their operations are not counted.
    is_temporary: bool,
}

impl OpenFile {
    /// Runs an operation if the file is alive, and returns what `SQLite` wants to hear.
    fn run<T>(&self, is_change: bool, work: impl FnOnce(&mut DiskState) -> Result<T, c_int>) -> Result<T, c_int> {
        let mut state = self.disk.state();
        state.admit(self.epoch, is_change && !self.is_temporary)?;
        work(&mut state)
    }
}

fn code(result: Result<(), c_int>) -> c_int {
    result.err().unwrap_or(ffi::SQLITE_OK)
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Registers a disk under a name. What `SQLite` holds on to is never freed: it may be used until the process ends.
pub(super) fn register(name: &str, disk: &Arc<Shared>) {
    let name = CString::new(name).expect("the name has no NUL").into_raw();
    let vfs = Box::new(sqlite3_vfs {
        iVersion: 2,
        szOsFile: size_of::<FileSlot>() as c_int,
        mxPathname: MAX_PATH,
        pNext: std::ptr::null_mut(),
        zName: name,
        pAppData: Arc::into_raw(Arc::clone(disk)).cast_mut().cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: Some(current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    });
    // SAFETY: the structure is complete and lives for ever; 0 keeps the default file layer.
    let result = unsafe { ffi::sqlite3_vfs_register(Box::into_raw(vfs), 0) };
    assert_eq!(result, ffi::SQLITE_OK, "SQLite takes another file layer");
}

/// # Safety
/// `vfs` was registered by [`register`].
unsafe fn disk_of(vfs: *mut sqlite3_vfs) -> Arc<Shared> {
    // SAFETY: `register` stored a reference that is never given up.
    unsafe {
        let disk: *const Shared = (*vfs).pAppData.cast_const().cast();
        Arc::increment_strong_count(disk);
        Arc::from_raw(disk)
    }
}

/// # Safety
/// `file` is open, see the module's invariant.
unsafe fn open_file<'a>(file: *mut sqlite3_file) -> &'a OpenFile {
    // SAFETY: `open` stored a live pointer, `close` is the only one to free it.
    unsafe { &*(*file.cast::<FileSlot>()).open_file }
}

/// # Safety
/// `name` is a string of C.
unsafe fn text(name: *const c_char) -> String {
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

fn base() -> *mut sqlite3_vfs {
    // SAFETY: asking for the default file layer is always allowed.
    unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) }
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: see the module's invariant; `file` is memory of `szOsFile` bytes.
    unsafe {
        (*file).pMethods = std::ptr::null();
        let disk = disk_of(vfs);
        let mut state = disk.state();
        let is_temporary = name.is_null();
        let name = if is_temporary { format!("(temporary {file:p})") } else { text(name) };
        let epoch = state.epoch;
        let opened = state
            .admit(epoch, false)
            .and_then(|()| state.open(&name, is_temporary || flags & ffi::SQLITE_OPEN_CREATE != 0));
        drop(state);
        let handle = match opened {
            Ok(handle) => handle,
            Err(error) => return error,
        };
        let remove_on_close = is_temporary || flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0;
        let opened = OpenFile { disk, name, epoch, handle, remove_on_close, is_temporary };
        let slot = file.cast::<FileSlot>();
        (*slot).open_file = Box::into_raw(Box::new(opened));
        (*slot).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: the file is open, and nobody uses it after this.
    let opened = unsafe { Box::from_raw((*file.cast::<FileSlot>()).open_file) };
    let mut state = opened.disk.state();
    if state.epoch == opened.epoch {
        state.close(&opened.name, opened.handle);
        if opened.remove_on_close && state.has_power {
            // A temporary file that is gone already is just as well.
            let _ = state.remove(&opened.name, true);
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut sqlite3_file, buffer: *mut c_void, n: c_int, offset: i64) -> c_int {
    // SAFETY: the file is open, the buffer has `n` bytes.
    let (opened, buffer) =
        unsafe { (open_file(file), std::slice::from_raw_parts_mut(buffer.cast::<u8>(), n as usize)) };
    match opened.run(false, |state| state.read(&opened.name, offset as usize, buffer)) {
        Ok(n_read) if n_read == buffer.len() => ffi::SQLITE_OK,
        Ok(n_read) => {
            buffer[n_read..].fill(0);
            ffi::SQLITE_IOERR_SHORT_READ
        }
        Err(error) => error,
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, bytes: *const c_void, n: c_int, offset: i64) -> c_int {
    // SAFETY: the file is open, there are `n` bytes.
    let (opened, bytes) = unsafe { (open_file(file), std::slice::from_raw_parts(bytes.cast::<u8>(), n as usize)) };
    code(opened.run(true, |state| state.write(&opened.name, offset as usize, bytes)))
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: i64) -> c_int {
    // SAFETY: the file is open.
    let opened = unsafe { open_file(file) };
    code(opened.run(true, |state| state.truncate(&opened.name, length as usize)))
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: the file is open.
    let opened = unsafe { open_file(file) };
    code(opened.run(true, |state| state.sync(&opened.name)))
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: the file is open, `size` can be written.
    let opened = unsafe { open_file(file) };
    code(opened.run(false, |state| state.length(&opened.name)).map(|length| {
        // SAFETY: see above.
        unsafe { *size = length as i64 }
    }))
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the file is open.
    let opened = unsafe { open_file(file) };
    code(opened.run(false, |state| state.lock(&opened.name, opened.handle, level)))
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the file is open.
    let opened = unsafe { open_file(file) };
    code(opened.run(false, |state| state.unlock(&opened.name, opened.handle, level)))
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, answer: *mut c_int) -> c_int {
    // SAFETY: the file is open, `answer` can be written.
    let opened = unsafe { open_file(file) };
    code(opened.run(false, |state| state.is_reserved(&opened.name)).map(|is_reserved| {
        // SAFETY: see above.
        unsafe { *answer = c_int::from(is_reserved) }
    }))
}

unsafe extern "C" fn file_control(_file: *mut sqlite3_file, _operation: c_int, _argument: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut sqlite3_file) -> c_int {
    512
}

unsafe extern "C" fn device_characteristics(_file: *mut sqlite3_file) -> c_int {
    // As on any disk of today: what stands beside a torn write stays whole.
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    memory: *mut *mut c_void,
) -> c_int {
    // SAFETY: the file is open, `memory` can be written.
    let opened = unsafe { open_file(file) };
    let mapped =
        opened.run(false, |state| state.map(&opened.name, opened.handle, region as usize, size as usize, extend != 0));
    code(mapped.map(|address| {
        // SAFETY: see above. The memory stays where it is until every user has unmapped it, and is kept even then.
        unsafe { *memory = address.map_or(std::ptr::null_mut(), <*mut u8>::cast) }
    }))
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, offset: c_int, n: c_int, flags: c_int) -> c_int {
    // SAFETY: the file is open.
    let opened = unsafe { open_file(file) };
    let slots = offset as usize..(offset + n) as usize;
    code(opened.run(false, |state| state.lock_shared_memory(&opened.name, opened.handle, slots, flags)))
}

unsafe extern "C" fn shm_barrier(_file: *mut sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, _remove: c_int) -> c_int {
    // SAFETY: the file is open.
    let opened = unsafe { open_file(file) };
    let mut state = opened.disk.state();
    if state.epoch == opened.epoch {
        state.unmap(&opened.name, opened.handle);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync_folder: c_int) -> c_int {
    // SAFETY: see the module's invariant.
    let (disk, name) = unsafe { (disk_of(vfs), text(name)) };
    let mut state = disk.state();
    let epoch = state.epoch;
    code(state.admit(epoch, true).and_then(|()| state.remove(&name, sync_folder != 0)))
}

unsafe extern "C" fn access(vfs: *mut sqlite3_vfs, name: *const c_char, _flags: c_int, answer: *mut c_int) -> c_int {
    // SAFETY: see the module's invariant; `answer` can be written.
    unsafe {
        let (disk, name) = (disk_of(vfs), text(name));
        let mut state = disk.state();
        let epoch = state.epoch;
        code(state.admit(epoch, false).map(|()| *answer = c_int::from(state.exists(&name))))
    }
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    n_out: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: `name` is a string of C, `out` has `n_out` bytes.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > n_out as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(_vfs: *mut sqlite3_vfs, n: c_int, out: *mut c_char) -> c_int {
    let base = base();
    // SAFETY: the default file layer has this method.
    unsafe { (*base).xRandomness.map_or(0, |method| method(base, n, out)) }
}

unsafe extern "C" fn sleep(_vfs: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    std::thread::sleep(std::time::Duration::from_micros(microseconds.unsigned_abs().into()));
    microseconds
}

unsafe extern "C" fn current_time(_vfs: *mut sqlite3_vfs, out: *mut f64) -> c_int {
    let base = base();
    // SAFETY: the default file layer has this method.
    unsafe { (*base).xCurrentTime.map_or(ffi::SQLITE_ERROR, |method| method(base, out)) }
}

unsafe extern "C" fn current_time_int64(_vfs: *mut sqlite3_vfs, out: *mut i64) -> c_int {
    let base = base();
    // SAFETY: the default file layer has this method.
    unsafe { (*base).xCurrentTimeInt64.map_or(ffi::SQLITE_ERROR, |method| method(base, out)) }
}

unsafe extern "C" fn last_error(_vfs: *mut sqlite3_vfs, _n: c_int, _out: *mut c_char) -> c_int {
    0
}
