package store

import (
	"errors"
	"fmt"
	"testing"
)

func TestSpacesKeepTheirKeysApart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, kv := range []*KV{s.Cache("a"), s.Cache("ab"), s.Durable("a"), s.Durable("ab")} {
		check(t, kv.Put("b1", fmt.Appendf(nil, "%s", kv.prefix)))
		check(t, kv.Put("b2", nil))
		check(t, kv.Put("c", []byte("x")))
		check(t, kv.Delete("c"))
		check(t, kv.Delete("never there"))
	}
	check(t, s.Close())
	s = open(t, dir)
	for _, kv := range []*KV{s.Cache("a"), s.Cache("ab"), s.Durable("a"), s.Durable("ab")} {
		v, found, err := kv.Get("b1")
		if string(v) != string(kv.prefix) || !found || err != nil {
			t.Errorf("%q: got %q, %v, %v", kv.prefix, v, found, err)
		}
		if v, found, err := kv.Get("b2"); len(v) != 0 || !found || err != nil {
			t.Errorf("%q: empty value = %q, %v, %v", kv.prefix, v, found, err)
		}
		if _, found, err := kv.Get("c"); found || err != nil {
			t.Errorf("%q: a deleted key: %v, %v", kv.prefix, found, err)
		}
		var keys []string
		check(t, kv.Each("b", func(key string, _ []byte) error { keys = append(keys, key); return nil }))
		if fmt.Sprint(keys) != "[b1 b2]" {
			t.Errorf("%q: keys %q", kv.prefix, keys)
		}
	}
	stop := errors.New("stop")
	if err := s.Cache("a").Each("", func(string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Each = %v, want the callback's error", err)
	}
}

func TestSpacesAreBounded(t *testing.T) {
	s := open(t, t.TempDir())
	for _, kv := range []*KV{s.Cache("a"), s.Durable("a")} {
		if err := kv.Put("k", make([]byte, Default().MaxValue+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a large value = %v, want ErrTooLarge", err)
		}
		for _, key := range []string{"", string(make([]byte, 513))} {
			if err := kv.Put(key, nil); err == nil {
				t.Errorf("a key of %d bytes was accepted", len(key))
			}
		}
	}
	check(t, s.Close())
	for _, kv := range []*KV{s.Cache("a"), s.Durable("a")} {
		if err := kv.Put("k", nil); !errors.Is(err, ErrClosed) {
			t.Errorf("put after close = %v, want ErrClosed", err)
		}
		if _, _, err := kv.Get("k"); !errors.Is(err, ErrClosed) {
			t.Errorf("get after close = %v, want ErrClosed", err)
		}
	}
}
