//! libpcap's C interface, bound at run time: a handful of calls, all the unsafe of expressions.
//!
//! Source: `pcap/pcap.h` and `pcap/bpf.h` of libpcap 1.0 and later; the calls used here have kept
//! their form since. The library is looked up once and stays open until the process ends.
#![allow(unsafe_code)]

use filter::Instruction;
use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};

/// `struct bpf_program`: a count and the instructions, which [`Instruction`] mirrors (`repr(C)`).
#[repr(C)]
struct BpfProgram {
    len: c_uint,
    instructions: *mut Instruction,
}

type OpenFile = unsafe extern "C" fn(*mut libc::FILE, *mut c_char) -> *mut c_void;
type Compile =
    unsafe extern "C" fn(*mut c_void, *mut BpfProgram, *const c_char, c_int, c_uint) -> c_int;
type FreeCode = unsafe extern "C" fn(*mut BpfProgram);
type Close = unsafe extern "C" fn(*mut c_void);
type GetErr = unsafe extern "C" fn(*mut c_void) -> *const c_char;
type LibVersion = unsafe extern "C" fn() -> *const c_char;

/// The loaded library. Compiling takes the lock: before 1.8 its compiler kept state in globals.
pub(super) struct Libpcap {
    open_file: OpenFile,
    compile: Compile,
    free_code: FreeCode,
    close: Close,
    get_err: GetErr,
    lib_version: LibVersion,
    compiling: Mutex<()>,
    _library: Library,
}

/// Bytes of a pcap file's header.
pub(super) const FILE_HEADER_LEN: usize = 24;
/// `PCAP_ERRBUF_SIZE`.
const ERRBUF_LEN: usize = 256;

/// Names of the library: Debian's, the upstream one, and a development link.
const NAMES: [&str; 3] = ["libpcap.so.0.8", "libpcap.so.1", "libpcap.so"];

impl Libpcap {
    /// The library, loaded at the first call. The error is the loader's message.
    pub(super) fn get() -> Result<&'static Libpcap, &'static str> {
        static LIBPCAP: OnceLock<Result<Libpcap, String>> = OnceLock::new();
        LIBPCAP.get_or_init(|| Libpcap::load(&NAMES)).as_ref().map_err(String::as_str)
    }

    /// Loads the first of some libraries that is there and has what is needed.
    pub(super) fn load(names: &[&str]) -> Result<Libpcap, String> {
        let mut failure = String::new();
        for name in names {
            match Libpcap::open(name) {
                Ok(libpcap) => return Ok(libpcap),
                // The name that this system should have comes first, its failure says most.
                Err(e) if failure.is_empty() => failure = e.to_string(),
                Err(_) => {}
            }
        }
        Err(failure)
    }

    fn open(name: &str) -> Result<Libpcap, libloading::Error> {
        // SAFETY: loading runs the library's initialisers; libpcap's have no preconditions.
        let library = unsafe { Library::new(name) }?;
        // SAFETY: each symbol is given the type that pcap.h declares for it. The function pointers
        // stay valid because the library is kept in the same value and never closed before it.
        unsafe {
            Ok(Libpcap {
                open_file: *library.get::<OpenFile>(b"pcap_fopen_offline\0")?,
                compile: *library.get::<Compile>(b"pcap_compile\0")?,
                free_code: *library.get::<FreeCode>(b"pcap_freecode\0")?,
                close: *library.get::<Close>(b"pcap_close\0")?,
                get_err: *library.get::<GetErr>(b"pcap_geterr\0")?,
                lib_version: *library.get::<LibVersion>(b"pcap_lib_version\0")?,
                compiling: Mutex::new(()),
                _library: library,
            })
        }
    }

    /// What the library calls itself, such as `libpcap version 1.10.3 (with TPACKET_V3)`.
    pub(super) fn version(&self) -> String {
        // SAFETY: takes nothing and returns a NUL-terminated string of static lifetime.
        let text = unsafe { CStr::from_ptr((self.lib_version)()) };
        text.to_string_lossy().into_owned()
    }

    /// Compiles one expression for a file; the error is libpcap's message. May block on a name
    /// lookup.
    ///
    /// `header` is the file's: a handle made any other way (`pcap_open_dead`) compiles as for a
    /// live interface, with this host's address families and the kernel's metadata. `netmask` is
    /// in network byte order.
    pub(super) fn compile(
        &self,
        expression: &CStr,
        mut header: [u8; FILE_HEADER_LEN],
        optimize: bool,
        netmask: u32,
    ) -> Result<Vec<Instruction>, String> {
        let _compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the buffer is writable and lives to the end of this call, the stream is closed
        // before; the mode is a NUL-terminated string.
        let file =
            unsafe { libc::fmemopen(header.as_mut_ptr().cast(), FILE_HEADER_LEN, c"rb".as_ptr()) };
        if file.is_null() {
            return Err(std::io::Error::last_os_error().to_string());
        }
        let mut reason = [0 as c_char; ERRBUF_LEN];
        // SAFETY: the stream is open, the buffer has the size that libpcap asks for. A handle that
        // comes back owns the stream.
        let handle = unsafe { (self.open_file)(file, reason.as_mut_ptr()) };
        if handle.is_null() {
            // SAFETY: without a handle the stream is still ours, and not used again.
            unsafe { libc::fclose(file) };
            // SAFETY: libpcap ends its message in NUL within the buffer, which began as zeros.
            let reason = unsafe { CStr::from_ptr(reason.as_ptr()) };
            return Err(reason.to_string_lossy().into_owned());
        }
        let mut program = BpfProgram { len: 0, instructions: std::ptr::null_mut() };
        // SAFETY: the handle is open, the program is writable, the expression ends in NUL and is
        // only read; libpcap keeps none of them.
        let failed = unsafe {
            (self.compile)(
                handle,
                &raw mut program,
                expression.as_ptr(),
                c_int::from(optimize),
                netmask,
            ) != 0
        };
        let result = if failed {
            // SAFETY: the handle is open; its message is a NUL-terminated string within the
            // handle, copied before the handle closes.
            let message = unsafe { CStr::from_ptr((self.get_err)(handle)) };
            Err(message.to_string_lossy().into_owned())
        } else if program.instructions.is_null() {
            Err("libpcap returned no program".to_owned())
        } else {
            let len = program.len as usize;
            // SAFETY: a successful compile leaves `len` initialised instructions at the pointer.
            let code = unsafe { std::slice::from_raw_parts(program.instructions, len) }.to_vec();
            // SAFETY: frees what the compile allocated, once; nothing points to it any more.
            unsafe { (self.free_code)(&raw mut program) };
            Ok(code)
        };
        // SAFETY: the handle is open and not used again; this closes the stream too.
        unsafe { (self.close)(handle) };
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_an_error_that_names_it() {
        let e = Libpcap::load(&["libtapline-no-such.so.1", "libc.so.6"]).err().unwrap();
        assert!(e.contains("libtapline-no-such.so.1"), "{e}");
    }

    #[test]
    fn a_library_without_the_calls_is_an_error() {
        let e = Libpcap::load(&["libc.so.6"]).err().unwrap();
        assert!(e.contains("pcap_fopen_offline"), "{e}");
    }
}
