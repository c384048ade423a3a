package chaos

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Disk lets the fsync and fdatasync calls of a process wait: a slow disk. It
// needs no rights. The process starts as this very program, which puts a
// seccomp filter over itself, hands the filter's listener to us, and becomes
// the program that was meant.
type Disk struct {
	delay atomic.Int64
	syncs atomic.Int64
}

// NewDisk makes a disk that is as fast as it is. An error says why the system
// cannot have slow ones.
func NewDisk() (*Disk, error) {
	var action uint32 = unix.SECCOMP_RET_USER_NOTIF
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action))); errno != 0 {
		return nil, fmt.Errorf("%w: %w", errNoFilter, errno)
	}
	return &Disk{}, nil
}

// Slow makes every sync take longer, until it is called with 0.
func (d *Disk) Slow(by time.Duration) { d.delay.Store(int64(by)) }

// Syncs counts the syncs that went by.
func (d *Disk) Syncs() int64 { return d.syncs.Load() }

// slowPart is the part of a process that puts the filter over itself; slowPath
// is the program it becomes then.
const (
	slowPart = "slow disk"
	slowPath = "HEDDLE_CHAOS_PROGRAM"
)

// wrap changes a command so that its syncs come to us. The file is the end of a
// socket that the child needs.
func (d *Disk) wrap(path string, args, env []string) (string, []string, []string, *os.File, error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, nil, nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		theirs.Close()
		return "", nil, nil, nil, err
	}
	go d.supervise(conn.(*net.UnixConn))
	return self, args, append(env, partEnv+"="+slowPart, slowPath+"="+path), theirs, nil
}

// supervise takes the listener from the child and answers its syncs until the
// child ends.
func (d *Disk) supervise(conn *net.UnixConn) {
	listener, err := receiveFile(conn)
	conn.Close()
	if err != nil {
		return // the child has ended, and said why
	}
	var waiting sync.WaitGroup
	defer func() {
		waiting.Wait()
		unix.Close(listener)
	}()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}, -1)
		if err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return
		}
		var call notification
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifyReceive, uintptr(unsafe.Pointer(&call)))
		switch {
		case errno == unix.EINTR || errno == unix.ENOENT && n > 0 && !hungUp(listener):
			continue // the thread that called is gone
		case errno != 0:
			return // no thread is left
		}
		d.syncs.Add(1)
		// The calls of several threads wait side by side.
		delay := time.Duration(d.delay.Load())
		if delay == 0 {
			answer(listener, call.id)
			continue
		}
		waiting.Add(1)
		time.AfterFunc(delay, func() {
			defer waiting.Done()
			answer(listener, call.id)
		})
	}
}

// hungUp: no process uses the filter any more.
func hungUp(listener int) bool {
	fds := []unix.PollFd{{Fd: int32(listener)}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&unix.POLLHUP != 0
}

// answer lets a call go on. An error means that the caller has ended meanwhile.
func answer(listener int, id uint64) {
	goOn := response{id: id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifySend, uintptr(unsafe.Pointer(&goOn)))
}

// notification is struct seccomp_notif, response struct seccomp_notif_resp.
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type response struct {
	id    uint64
	val   int64
	error int32
	flags uint32
}

// The ioctl numbers of a seccomp listener.
const (
	notifyReceive = 3<<30 | unsafe.Sizeof(notification{})<<16 | '!'<<8
	notifySend    = 3<<30 | unsafe.Sizeof(response{})<<16 | '!'<<8 | 1
)

// playSlow is the child's side: it puts the filter over the thread that becomes
// the program, and sends the listener over the socket that is file 3.
func playSlow() error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forgo privileges: %w", err)
	}
	load := func(nr uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: nr}
	}
	equal := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	give := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	filter := []unix.SockFilter{
		load(0), // the number of the call
		equal(unix.SYS_FSYNC, 2, 0),
		equal(unix.SYS_FDATASYNC, 1, 0),
		give(unix.SECCOMP_RET_ALLOW),
		give(unix.SECCOMP_RET_USER_NOTIF),
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("install the filter: %w", errno)
	}
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(listener)), nil, 0); err != nil {
		return fmt.Errorf("hand the filter over: %w", err)
	}
	unix.Close(int(listener))
	unix.Close(3)
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, partEnv+"=") && !strings.HasPrefix(v, slowPath+"=") {
			env = append(env, v)
		}
	}
	path := os.Getenv(slowPath)
	return syscall.Exec(path, append([]string{path}, os.Args[1:]...), env)
}

// receiveFile takes one file descriptor from a socket.
func receiveFile(conn *net.UnixConn) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return 0, err
	}
	if len(messages) != 1 {
		return 0, errors.New("no file came")
	}
	files, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(files) != 1 {
		return 0, fmt.Errorf("no file came: %w", err)
	}
	unix.CloseOnExec(files[0])
	return files[0], nil
}
