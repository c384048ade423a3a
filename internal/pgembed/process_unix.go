//go:build unix

package pgembed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockFile takes the lock that keeps two programs out of one directory. The
// system frees it when the process ends, however it ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("pgembed: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("pgembed: %w: %s; stop the other program, or choose another directory", ErrInUse, filepath.Dir(path))
	}
	return f, nil
}

// unprivileged says as whom the server runs: nil for "as we do". For root it
// picks postgres or nobody and checks that this user can reach dir.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 != nil || err2 != nil || uid == 0 {
			continue
		}
		for p := dir; ; p = filepath.Dir(p) {
			info, err := os.Stat(p)
			if err != nil {
				return nil, err
			}
			if info.Mode().Perm()&0o001 == 0 {
				return nil, fmt.Errorf("as root, postgres runs as user %q, who cannot enter %s (mode %v): choose a data directory elsewhere", name, p, info.Mode().Perm())
			}
			if p == filepath.Dir(p) {
				break
			}
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("running as root, and there is no user postgres or nobody to run PostgreSQL as: run as another user")
}

// childAttr puts the server into a process group of its own, so that a Ctrl-C
// on the terminal reaches only us, who stop it in order.
func childAttr(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: cred}
}

// stopOrphan stops a server that a crashed program left running in our
// directory. We hold the directory's lock, so nobody uses it any more.
func (s *Server) stopOrphan(ctx context.Context) error {
	pidfile := filepath.Join(s.data(), "postmaster.pid")
	raw, err := os.ReadFile(pidfile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return nil // not a live server: postgres itself clears it away
	}
	if !runsIn(pid, s.data()) {
		return nil
	}
	s.cfg.Logger.Info("stopping the postgres a crashed program left behind", "pid", pid, "dir", s.cfg.Dir)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		if err := syscall.Kill(pid, sig); errors.Is(err, syscall.ESRCH) {
			return nil
		}
		if gone(ctx, pid, 10*time.Second) {
			return nil
		}
	}
	return fmt.Errorf("postgres (pid %d) left in %s does not end", pid, s.cfg.Dir)
}

// runsIn reports whether pid is a live server of the data directory. Postgres
// makes it its working directory; where /proc does not tell, the pid file is
// believed only if the process exists.
func runsIn(pid int, data string) bool {
	if cwd, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd"); err == nil {
		real, err := filepath.EvalSymlinks(data)
		return err == nil && cwd == real
	}
	if _, err := os.Stat("/proc/self"); err == nil {
		return false
	}
	return syscall.Kill(pid, 0) == nil
}

func gone(ctx context.Context, pid int, wait time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}
