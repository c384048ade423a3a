package chaos

import (
	"path/filepath"
	"testing"
	"time"
)

// A slow disk lets exactly the syncs wait, of the program that the child
// becomes; it ends with its code as ever.
func TestSlowDisk(t *testing.T) {
	d, err := NewDisk()
	if err != nil {
		t.Fatal(err)
	}
	const script = `while read word; do [ "$word" = end ] && exit 7; dd if=/dev/zero of="$0" bs=1 count=1 conv=fsync status=none; echo "$word"; done`
	p, err := Start(Program{Name: "shell", Path: "/bin/sh", Args: []string{"-c", script, filepath.Join(t.TempDir(), "file")}, Log: filepath.Join(t.TempDir(), "log"), Disk: d})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	took := func(word string) time.Duration {
		t.Helper()
		begun := time.Now()
		if err := p.Tell(word); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Hear(word, long); err != nil {
			t.Fatal(err)
		}
		return time.Since(begun)
	}
	took("quick")
	syncs := d.Syncs()
	const delay = 300 * time.Millisecond
	d.Slow(delay)
	if slow := took("slow"); slow < delay {
		t.Errorf("a sync on a slow disk took %v, want at least %v", slow, delay)
	}
	if now := d.Syncs(); now != syncs+1 {
		t.Errorf("%d syncs, want %d", now, syncs+1)
	}
	if err := p.Tell("end"); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Await(long); code != 7 || err != nil {
		t.Errorf("ended with %d, %v, want 7", code, err)
	}
}
