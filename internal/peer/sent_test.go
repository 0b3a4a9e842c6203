package peer

import (
	"fmt"
	"testing"
)

// What another node has refused, or was never sent, was certainly not done.
func TestSent(t *testing.T) {
	for err, want := range map[error]bool{
		ErrDown: false, ErrBusy: false, ErrTooLarge: false, ErrTimeout: true, ErrLost: true,
		&RemoteError{"it is stopping"}: false, fmt.Errorf("node 7: %w", &RemoteError{"full"}): false,
	} {
		if got := Sent(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
