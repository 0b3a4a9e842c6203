//go:build unix && !linux

package memory

import "golang.org/x/sys/unix"

const mapFlags = unix.MAP_ANON | unix.MAP_PRIVATE

// preferLarge does nothing: there is no asking for large pages here.
func preferLarge([]byte) {}
