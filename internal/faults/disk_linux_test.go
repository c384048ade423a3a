package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/pgembed"
	"github.com/heddle-io/heddle/internal/pgtest"
	heddle "github.com/heddle-io/heddle/sdk"
)

// apartEnv is set in the run of a test that has mounts of its own.
const apartEnv = "HEDDLE_FAULTS_APART"

// apart runs the calling test again in a process with a mount namespace of its
// own, where it may mount small file systems that vanish with it. It answers
// true in that process; false in the outer one, where the test is over. Who is
// not root gets a user namespace too.
func apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(apartEnv) != "" {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatalf("keep the mounts to ourselves: %v", err)
		}
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=150s")
	cmd.Env = append(os.Environ(), apartEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		const capSysAdmin = 21
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{capSysAdmin}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Fatalf("this test mounts a small file system: run it as root, or where user namespaces are allowed: %v", err)
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("in the process apart: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "_test.go:") {
			t.Log(strings.TrimSpace(line))
		}
	}
	return false
}

// smallDisk is a file system of a few MiB.
type smallDisk struct {
	t   testing.TB
	dir string
}

func mountDisk(t testing.TB, mib int) *smallDisk {
	t.Helper()
	dir, err := os.MkdirTemp("", "heddle-disk-")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0777", mib)); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		os.Remove(dir)
	})
	return &smallDisk{t: t, dir: dir}
}

func (d *smallDisk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill leaves at most so many bytes free.
func (d *smallDisk) fill(leave int64) {
	d.t.Helper()
	f, err := os.Create(d.ballast())
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(d.dir, &fs); err != nil {
			d.t.Fatal(err)
		}
		if int64(fs.Bavail)*fs.Bsize <= leave {
			return
		}
		if _, err := f.Write(block); err != nil {
			return // full
		}
	}
}

func (d *smallDisk) free() {
	d.t.Helper()
	if err := os.Remove(d.ballast()); err != nil {
		d.t.Fatal(err)
	}
}

// smallDatabase gives a database whose tables, but not whose log, are on the
// disk.
func smallDatabase(t testing.TB, pg *pgembed.Server, d *smallDisk) string {
	t.Helper()
	space := filepath.Join(d.dir, "tables")
	if err := os.Mkdir(space, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // the server is another user
		var owner syscall.Stat_t
		if err := syscall.Stat(fmt.Sprintf("/proc/%d", pg.Pid()), &owner); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(space, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Exec(t, pg.DSN(), fmt.Sprintf("CREATE TABLESPACE small LOCATION '%s'", space))
	pgtest.Exec(t, pg.DSN(), "CREATE DATABASE small TABLESPACE small")
	return strings.Replace(pg.DSN(), "/heddle?", "/small?", 1)
}

// The disk of Postgres is full: submits are refused with that reason, nothing
// is acknowledged, workers keep their results. When there is space again, all
// goes on by itself.
func TestPostgresDiskFull(t *testing.T) {
	t.Parallel()
	if !apart(t) {
		return
	}
	disk := mountDisk(t, 64)
	pg := pgtest.Server(t, false, map[string]string{"synchronous_commit": "on"})
	dsn := smallDatabase(t, pg, disk)
	s := serve(t, dsn, 10*time.Second)
	v := newEvents(t)
	l := newLoad(t, s.client(nil), 7)
	w := hire(t, s, v, "a", 300, nil)
	once := s.client(func(c *heddle.ClientConfig) { c.RetryFor = -1 })
	l.held(v, "a", 300, task{}, heddle.JobOptions{})

	disk.fill(0)
	var full error
	eventually(t, "submits are refused", patience, func() bool {
		var works []heddle.Work
		for range 500 {
			works = append(works, taskKind.Job(task{Busy: 1}))
		}
		runs, err := once.SubmitAll(t.Context(), works...)
		for _, r := range runs { // those that still found room
			if r != nil {
				l.acked(l.add(&submission{lone: true, jobs: 1, want: heddle.Succeeded}), r.ID())
			}
		}
		full = err
		return err != nil
	})
	wantError(t, "submit on a full disk", full, heddle.ErrOverloaded, "postgres has no disk space left")
	s.post(t, "WorkflowService/Submit", fmt.Sprintf(`{"submissions": [{"job": {"kind": "task", "argsJson": "{\"fill\": \"%s\"}"}}]}`, strings.Repeat("x", 500_000))).
		refused(t, "submit with curl on a full disk", "resource_exhausted", "postgres has no disk space left")

	w.tell("release")
	eventually(t, "the engine says that the disk is full", patience, func() bool {
		return strings.Contains(s.log(), "flush failed") && strings.Contains(s.log(), "No space left on device")
	})
	acked := v.acks()
	select {
	case <-s.Ended():
		t.Fatal("the engine ended because the disk was full")
	default:
	}
	disk.free()
	settle(t, dsn, patience)
	l.begin(3)
	l.finish()
	settle(t, dsn, patience)
	judge(t, dsn, v, l.submitted())
	t.Logf("%d ends were acknowledged before the disk was full", acked)
	if n := strings.Count(s.log(), "\n"); n > 200 {
		t.Errorf("the full disk took %d lines of the engine's log", n)
	}
}

// The disk of the scheduler's log is full: the engine says so and ends, having
// handed out nothing that is not in its log. Submits go on until then. Started
// again with space, it goes on with the workers that kept their jobs.
func TestLogDiskFull(t *testing.T) {
	t.Parallel()
	if !apart(t) {
		return
	}
	disk := mountDisk(t, 8)
	dsn := pgtest.DSN(t)
	s := newServer(t, dsn, filepath.Join(disk.dir, "engine"), 10*time.Second)
	s.launch()
	v := newEvents(t)
	l := newLoad(t, s.client(nil), 8)
	w := hire(t, s, v, "a", 20, nil)
	l.held(v, "a", 10, task{}, heddle.JobOptions{})

	disk.fill(0)
	l.begin(30)
	if code := s.await(patience); code != 3 {
		t.Errorf("the engine without a log ended with code %d", code)
	}
	said := s.log()
	for _, part := range []string{"scheduler stopped", "no space left on device"} {
		if !strings.Contains(said, part) {
			t.Errorf("the engine did not say %q:\n%s", part, said)
		}
	}
	// Started again without space, it says the same and does not stay.
	s.process = play(t, partEngine, "engine", s.config)
	if code := s.await(startTime); code == 0 {
		t.Error("the engine that could not start ended with code 0")
	}
	if said := s.log(); !strings.Contains(said, "no space left on device") {
		t.Errorf("the engine that could not start did not say why:\n%s", said)
	}
	disk.free()
	s.launch()
	w.tell("release")
	l.finish()
	settle(t, dsn, patience)
	judge(t, dsn, v, l.submitted())
}
