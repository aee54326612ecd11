//! A virtual machine that boots one kernel, runs one command as root and gives its output and exit
//! status back.
//!
//! The guest is an initramfs (busybox, the files given, [`INIT`]) with a disk for `/ext4` and each other filesystem that is asked for. The
//! command's two output streams come through ports of their own, byte for byte; the kernel's console
//! is a third way out and only watched. A guest that panics, hangs or outlives its limit is ended,
//! and the [`Ending`] says which.

mod console;
mod disk;
mod initramfs;
mod modules;
mod side_by_side;

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read, Seek as _},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{kernel::Kernel, process};
pub use console::Trouble;
use console::{Console, trouble};
pub use disk::Filesystem;
use initramfs::Initramfs;
pub use modules::Modules;
pub use side_by_side::side_by_side;

const INIT: &str = include_str!("init.sh");
/// Needed by [`INIT`]; compiled into some kernels, modules of others.
const DRIVERS: [&str; 3] = ["virtio_pci", "virtio_console", "virtio_blk"];
const PORTS: [(&str, Stream); 2] = [("stdout", Stream::Stdout), ("stderr", Stream::Stderr)];
/// How long a kernel in trouble may go on explaining itself on the console.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where a command's output went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What to boot and what to run there.
pub struct Guest {
    pub kernel: Kernel,
    /// The command, as a shell script.
    pub script: String,
    /// Programs of the host: their place in the guest and here.
    pub files: Vec<(String, PathBuf)>,
    /// Modules to load besides those that the guest itself needs.
    pub modules: Vec<String>,
    /// What it has besides `/ext4`.
    pub filesystems: Vec<Filesystem>,
    pub memory_mib: u32,
    /// QEMU's accelerator: `tcg` works everywhere.
    pub accelerator: String,
    /// From starting QEMU to the command's end.
    pub limit: Duration,
    /// Repeats the kernel's console on standard error.
    pub show_console: bool,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The command ended with this status.
    Exited(u8),
    Trouble(Trouble),
    /// The limit was reached; whether the command had begun.
    OutOfTime {
        began: bool,
    },
    /// The machine stopped and nothing said why; what QEMU wrote.
    Stopped(String),
}

/// How it ended, with the console's last lines for the report on a bad end.
pub struct Outcome {
    pub ending: Ending,
    pub console: Vec<String>,
}

impl Outcome {
    /// The command's exit status, or an error that says what became of the guest.
    pub fn status(self) -> Result<u8> {
        let what = match self.ending {
            Ending::Exited(status) => return Ok(status),
            Ending::Trouble(Trouble::Panicked(line)) => format!("the guest's kernel panicked: {line}"),
            Ending::Trouble(Trouble::Faulted(line)) => format!("the guest's kernel has a fault: {line}"),
            Ending::Trouble(Trouble::Hung(line)) => format!("the guest hung: {line}"),
            Ending::OutOfTime { began: true } => "the command had not ended when its time was up".into(),
            Ending::OutOfTime { began: false } => "the guest had not booted when its time was up".into(),
            Ending::Stopped(said) => format!("the guest stopped without a word; QEMU said: {said:?}"),
        };
        if self.console.is_empty() {
            bail!("{what}; it was ended, and its console is empty");
        }
        let console: Vec<_> = self.console.iter().map(|line| format!("\n    | {line}")).collect();
        bail!("{what}; it was ended. The last lines of its console:{}", console.concat());
    }
}

/// What the threads that listen to the guest report.
enum Event {
    Output(Stream, Vec<u8>),
    Status(String),
    Console(Vec<u8>),
    /// A way out of the guest was closed.
    Closed,
}

impl Guest {
    /// Boots it and waits for its end. `output` gets the command's output as it comes.
    pub fn boot(&self, output: &mut dyn FnMut(Stream, &[u8]) -> Result<()>) -> Result<Outcome> {
        let work = tempfile::Builder::new().prefix("log-tail-vm-").tempdir()?;
        self.initramfs(&work.path().join("initramfs"))?;
        for filesystem in self.disks() {
            filesystem.make(&work.path().join(filesystem.name()))?;
        }

        let (events, incoming) = mpsc::channel();
        for (name, stream) in PORTS {
            let port = listen(work.path(), name)?;
            let events = events.clone();
            thread::spawn(move || forward(port.accept(), &events, |bytes| Event::Output(stream, bytes)));
        }
        let status = listen(work.path(), "status")?;
        let status_events = events.clone();
        thread::spawn(move || forward_status(&status, &status_events));

        let mut said = tempfile::tempfile()?;
        let mut machine = Machine::start(&mut self.qemu(work.path())?, said.try_clone()?)?;
        let console = machine.0.stdout.take().context("QEMU has no standard output")?;
        thread::spawn(move || forward(Ok((console, ())), &events, Event::Console));

        let mut watch = Watch {
            guest: self,
            work: Some(work),
            console: Console::default(),
            ending: None,
            began: false,
            open: 4,
        };
        watch.follow(&incoming, &mut machine, output)?;
        let ending = if let Some(ending) = watch.ending {
            ending
        } else {
            let mut text = String::new();
            said.rewind()?;
            said.read_to_string(&mut text).context("could not read what QEMU said")?;
            Ending::Stopped(text.trim().to_owned())
        };
        Ok(Outcome { ending, console: watch.console.tail().map(str::to_owned).collect() })
    }

    /// What is on its disks, in the order of their devices.
    fn disks(&self) -> impl Iterator<Item = Filesystem> {
        std::iter::once(Filesystem::Ext4).chain(self.filesystems.iter().copied())
    }

    fn initramfs(&self, path: &Path) -> Result<()> {
        let mut archive = Initramfs::create(path)?;
        for folder in ["proc", "sys", "dev", "tmp", "run", "etc", "root", "mnt", "tests"] {
            archive.folder(folder)?;
        }
        archive.copy("bin/busybox", &static_busybox()?)?;
        archive.file("init", 0o755, INIT.as_bytes())?;
        archive.file("command", 0o644, self.script.as_bytes())?;
        archive.file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")?;
        archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
        for (name, from) in &self.files {
            archive.copy(name, from)?;
        }
        let kernel = Modules::of(&self.kernel.modules())?;
        let mut wanted: Vec<_> = DRIVERS.map(str::to_owned).into();
        wanted.extend(self.modules.clone());
        let mut mounts = String::new();
        for (filesystem, device) in self.disks().zip('a'..='z') {
            let wishes = filesystem.wishes().iter().filter(|module| kernel.has(module));
            wanted.extend(wishes.chain(filesystem.modules()).map(|&module| module.to_owned()));
            mounts.extend([filesystem.name(), " /dev/vd", device.encode_utf8(&mut [0; 4]), "\n"]);
            archive.folder(filesystem.name())?;
        }
        archive.file("filesystems", 0o644, mounts.as_bytes())?;
        let modules = kernel.load_order(&wanted)?;
        let mut order = String::new();
        for module in modules {
            let file = format!("{}.ko", module.name);
            archive.file(&format!("modules/{file}"), 0o644, &module.content)?;
            order.push_str(&file);
            order.push('\n');
        }
        archive.file("modules/order", 0o644, order.as_bytes())?;
        archive.finish()
    }

    fn qemu(&self, work: &Path) -> Result<Command> {
        let qemu = process::need("qemu-system-x86_64", "qemu-system-x86")?;
        // However we end, the kernel ends the guest with us.
        let mut command = match process::find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(qemu);
                command
            }
            None => Command::new(qemu),
        };
        // The emulator does `rep stosb` byte by byte, with which the kernel clears pages where it may (`erms`), and
        // a fifth level of page tables (`la57`) is one more to walk.
        let emulated = "max,cx16=off,erms=off,la57=off";
        let (accelerator, processor) = match self.accelerator.as_str() {
            // QEMU 7.2's emulation of cmpxchg16b now and then leaves garbage in the flags register: a
            // quarter of all boots of 6.12, whose allocator uses it, died of a double fault in kmalloc.
            // Without it, the kernel takes another way: none of 45 boots failed.
            "tcg" => ("tcg,thread=single", emulated),
            // Both processors really at once, for races; QEMU 7.2 then now and then runs a function that the
            // kernel is patching, and the guest ends with an int3 oops.
            "tcg-parallel" => ("tcg,thread=multi", emulated),
            other => (other, "max"),
        };
        let at = |name: &str| work.join(name).display().to_string();
        command
            .args(["-accel", accelerator, "-cpu", processor, "-smp", "2", "-m", &self.memory_mib.to_string()])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(self.kernel.image())
            .args(["-initrd", &at("initramfs")])
            // A machine whose processors are busy elsewhere stalls the emulated ones for seconds: that is no
            // fault of the kernel's. One that really hangs meets the time limit.
            .args([
                "-append",
                "console=ttyS0 loglevel=5 panic=-1 nosoftlockup rcupdate.rcu_cpu_stall_suppress=1",
            ])
            .args(["-device", "virtio-serial-pci"]);
        for filesystem in self.disks() {
            let disk = at(filesystem.name());
            command.args(["-drive", &format!("file={disk},format=raw,if=virtio,cache=unsafe")]);
        }
        for name in ["stdout", "stderr", "status"] {
            command.args(["-chardev", &format!("socket,id={name},path={}", at(name))]);
            command.args(["-device", &format!("virtserialport,chardev={name},name={name}")]);
        }
        Ok(command)
    }
}

/// QEMU, running. It does not outlive this.
struct Machine(Child);

impl Machine {
    fn start(command: &mut Command, said: File) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said).spawn();
        Ok(Self(child.context("could not start QEMU")?))
    }

    fn end(&mut self) {
        // Either fails only where it has ended already.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

/// The state of watching a guest.
struct Watch<'a> {
    guest: &'a Guest,
    /// The files that the machine has open. Nobody needs their names once it runs, and without names
    /// nothing stays behind when we are killed.
    work: Option<TempDir>,
    console: Console,
    ending: Option<Ending>,
    began: bool,
    /// Ways out of the guest that are still open.
    open: usize,
}

impl Watch<'_> {
    /// Handles events until the guest's end is known and all that it wrote has been handed on.
    fn follow(
        &mut self,
        incoming: &Receiver<Event>,
        machine: &mut Machine,
        output: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut until = Instant::now() + self.guest.limit;
        while self.open > 0 {
            let was_well = self.ending.is_none();
            match incoming.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Output(stream, bytes)) => output(stream, &bytes)?,
                Ok(Event::Console(bytes)) => self.read_console(&bytes),
                Ok(Event::Status(line)) => self.read_status(&line),
                Ok(Event::Closed) => self.open -= 1,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.ending.get_or_insert(Ending::OutOfTime { began: self.began });
                    machine.end();
                    // Its ends of our sockets are closed now: what is left in them comes at once.
                    until = Instant::now() + LAST_WORDS;
                    if !was_well {
                        break;
                    }
                }
            }
            match self.ending {
                // It reports its status after the last of its output has arrived here.
                Some(Ending::Exited(_)) if was_well => machine.end(),
                Some(_) if was_well => until = until.min(Instant::now() + LAST_WORDS),
                _ => {}
            }
            // A machine that ends by itself closes the console, but never one that it did not open.
            if self.open <= 3 && matches!(machine.0.try_wait(), Ok(Some(_))) {
                until = until.min(Instant::now() + LAST_WORDS);
            }
        }
        Ok(())
    }

    fn read_console(&mut self, bytes: &[u8]) {
        for line in self.console.take(bytes) {
            if self.guest.show_console {
                eprintln!("console: {line}");
            }
            if let (None, Some(trouble)) = (&self.ending, trouble(&line)) {
                self.ending = Some(Ending::Trouble(trouble));
            }
        }
    }

    fn read_status(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("exit", status)) if self.ending.is_none() => {
                self.ending = status.parse().ok().map(Ending::Exited);
            }
            _ => {
                self.began |= line == "begin";
                self.work = None;
            }
        }
    }
}

fn listen(work: &Path, name: &str) -> Result<UnixListener> {
    UnixListener::bind(work.join(name))
        .with_context(|| format!("could not make a socket for the guest's {name}"))
}

/// Reports all that comes from `from`, then that it is closed.
fn forward<R: Read, A>(
    from: std::io::Result<(R, A)>,
    events: &Sender<Event>,
    event: impl Fn(Vec<u8>) -> Event,
) {
    if let Ok((mut from, _)) = from {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            // Nobody listens any more once the end is known: then nothing is left to do here.
            if events.send(event(bytes[..count].to_vec())).is_err() {
                return;
            }
        }
    }
    _ = events.send(Event::Closed);
}

fn forward_status(port: &UnixListener, events: &Sender<Event>) {
    if let Ok((port, _)) = port.accept() {
        for line in BufReader::new(port).lines().map_while(Result::ok) {
            _ = events.send(Event::Status(line));
        }
    }
    _ = events.send(Event::Closed);
}

/// Busybox that needs no shared libraries: the guest has none.
pub fn static_busybox() -> Result<PathBuf> {
    let busybox = process::need("busybox", "busybox-static")?;
    let mut head = vec![0; 4096];
    let count = File::open(&busybox).and_then(|mut file| file.read(&mut head)).unwrap_or(0);
    // The dynamic linker's path stands near the beginning of a dynamically linked program.
    if head[..count].windows(8).any(|window| window == b"ld-linux") {
        bail!("{} is dynamically linked: apt-get install busybox-static", busybox.display());
    }
    Ok(busybox)
}
