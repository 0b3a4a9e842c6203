package node

import (
	"errors"
	"fmt"
	"testing"

	"unkai/internal/node/directory"
	"unkai/internal/node/manager"
)

// What may not have been saved is uncertain to the manager, and nothing else is.
func TestTheManagerHearsWhatIsUncertain(t *testing.T) {
	disk := errors.New("the disk is gone")
	unsure := fmt.Errorf("%w: %w", directory.ErrUncertain, disk)
	err := translated(unsure)
	if !errors.Is(err, manager.ErrUncertain) || !errors.Is(err, disk) || err.Error() != unsure.Error() {
		t.Errorf("%v", err)
	}
	if err := translated(disk); errors.Is(err, manager.ErrUncertain) || !errors.Is(err, disk) {
		t.Errorf("%v", err)
	}
	if err := translated(nil); err != nil {
		t.Error(err)
	}
}
