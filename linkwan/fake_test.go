package linkwan

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"joingate/joinserver"
)

// fakeRecord is a Record in memory. It runs the function of each Update twice,
// first on a copy that it throws away, as a record that tries again would.
type fakeRecord struct {
	mu     sync.Mutex
	state  fakeState
	nonces map[string]bool
	audit  []auditLine
	fault  error // when set, nothing works
}

type auditLine struct {
	joinserver.Write
	changes []joinserver.Change
}

type fakeState struct {
	revision    int64
	accounts    map[joinserver.AccountID]joinserver.Account
	keys        map[string]joinserver.AccessKey
	users       map[string]joinserver.User
	permissions map[int64]joinserver.Permission
	groups      map[int64]joinserver.Group
	orders      map[int64]joinserver.Order
	devices     map[joinserver.EUI64]joinserver.Device
	gateways    map[joinserver.EUI64]joinserver.GatewayInfo
	states      []joinserver.GatewayState
	notices     map[int64]joinserver.Notification
}

func newFakeRecord() *fakeRecord {
	return &fakeRecord{
		nonces: map[string]bool{},
		state: fakeState{
			revision:    1000,
			accounts:    map[joinserver.AccountID]joinserver.Account{},
			keys:        map[string]joinserver.AccessKey{},
			users:       map[string]joinserver.User{},
			permissions: map[int64]joinserver.Permission{},
			groups:      map[int64]joinserver.Group{},
			orders:      map[int64]joinserver.Order{},
			devices:     map[joinserver.EUI64]joinserver.Device{},
			gateways:    map[joinserver.EUI64]joinserver.GatewayInfo{},
			notices:     map[int64]joinserver.Notification{},
		},
	}
}

func (s fakeState) clone() fakeState {
	s.accounts, s.keys, s.users = maps.Clone(s.accounts), maps.Clone(s.keys), maps.Clone(s.users)
	s.permissions, s.groups, s.orders = maps.Clone(s.permissions), maps.Clone(s.groups), maps.Clone(s.orders)
	s.devices, s.gateways, s.notices = maps.Clone(s.devices), maps.Clone(s.gateways), maps.Clone(s.notices)
	s.states = slices.Clone(s.states)
	return s
}

func (r *fakeRecord) View(ctx context.Context, fn func(Tx) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmp.Or(r.fault, ctx.Err()); err != nil {
		return err
	}
	state := r.state.clone()
	return fn(&fakeTx{fakeState: &state, readOnly: true})
}

func (r *fakeRecord) Update(ctx context.Context, w joinserver.Write, fn func(Tx) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmp.Or(r.fault, ctx.Err()); err != nil {
		return err
	}
	nonce := w.AccessKeyID + "|" + w.Nonce
	if w.Nonce != "" && r.nonces[nonce] {
		return joinserver.ErrNonceUsed
	}
	first, second := r.state.clone(), r.state.clone()
	if err := fn(&fakeTx{fakeState: &first}); err != nil {
		return err
	}
	second.revision++
	tx := &fakeTx{fakeState: &second}
	if err := fn(tx); err != nil {
		return err
	}
	r.state, r.nonces[nonce] = second, true
	r.audit = append(r.audit, auditLine{w, tx.changes})
	return nil
}

type fakeTx struct {
	*fakeState
	readOnly bool
	changes  []joinserver.Change
}

var errReadOnly = errors.New("write in a View")

func find[K comparable, V any](rows map[K]V, key K) (V, error) {
	row, ok := rows[key]
	if !ok {
		return row, joinserver.ErrNotFound
	}
	return row, nil
}

// newID gives ids as the record does: the revision, counted on within a write.
func (t *fakeTx) newID() (int64, error) {
	if t.readOnly {
		return 0, errReadOnly
	}
	t.revision++
	return t.revision, nil
}

func (t *fakeTx) Account(id joinserver.AccountID) (joinserver.Account, error) {
	return find(t.accounts, id)
}

func (t *fakeTx) AccessKey(id string) (joinserver.AccessKey, error) { return find(t.keys, id) }

func (t *fakeTx) User(account joinserver.AccountID, name string) (joinserver.User, error) {
	return find(t.users, account.String()+"/"+name)
}

func (t *fakeTx) Audit(c joinserver.Change) error {
	if t.readOnly {
		return errReadOnly
	}
	t.changes = append(t.changes, c)
	return nil
}

func (t *fakeTx) Permission(id int64) (joinserver.Permission, error) { return find(t.permissions, id) }

func (t *fakeTx) permissionNameTaken(p joinserver.Permission) bool {
	for _, other := range t.permissions {
		if other.ID != p.ID && other.Account() == p.Account() && other.Name == p.Name {
			return true
		}
	}
	return false
}

func (t *fakeTx) InsertPermission(p joinserver.Permission) (int64, error) {
	id, err := t.newID()
	if err != nil {
		return 0, err
	}
	p.ID, p.Version = id, id
	if t.permissionNameTaken(p) {
		return 0, joinserver.ErrDuplicate
	}
	t.permissions[id] = p
	return id, nil
}

func (t *fakeTx) UpdatePermission(p joinserver.Permission) error {
	if t.readOnly {
		return errReadOnly
	}
	if _, err := find(t.permissions, p.ID); err != nil {
		return err
	}
	if t.permissionNameTaken(p) {
		return joinserver.ErrDuplicate
	}
	p.Version = t.revision
	t.permissions[p.ID] = p
	return nil
}

func (t *fakeTx) DeletePermission(id int64) error {
	if t.readOnly {
		return errReadOnly
	}
	if _, err := find(t.permissions, id); err != nil {
		return err
	}
	delete(t.permissions, id)
	return nil
}

func (t *fakeTx) Permissions(f joinserver.PermissionFilter) ([]joinserver.Permission, int64, error) {
	var rows []joinserver.Permission
	for _, p := range t.permissions {
		if t.matchPermission(f, p) {
			rows = append(rows, p)
		}
	}
	page, total := cut(rows, f.Page, func(p joinserver.Permission) (int64, int64) { return p.CreateMillis, p.ID })
	return page, total, nil
}

func (t *fakeTx) matchPermission(f joinserver.PermissionFilter, p joinserver.Permission) bool {
	bound := false
	for _, g := range t.groups {
		bound = bound || g.PermissionID == p.ID
	}
	return (f.IDs == nil || slices.Contains(f.IDs, p.ID)) &&
		zeroOr(f.Owner, p.Owner) && zeroOr(f.Renter, p.Renter) && zeroOr(f.AuthState, p.AuthState) && zeroOr(f.Type, p.Type) &&
		nilOr(f.InstanceID, p.InstanceID) && nilOr(f.Enabled, p.Enabled) && nilOr(f.Bound, bound) &&
		like(p.Name, f.NameLike) && like(p.JoinEUI.String(), f.JoinEUILike) &&
		like(ownerText(p.Owner), f.OwnerLike) && like(accountText(p.Renter), f.RenterLike)
}

func zeroOr[T comparable](want, is T) bool {
	var zero T
	return want == zero || want == is
}

func nilOr[T comparable](want *T, is T) bool { return want == nil || *want == is }

func like(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// cut sorts the rows and takes the page. key gives creation time and id.
func cut[T any](rows []T, page joinserver.Page, key func(T) (sort, id int64)) ([]T, int64) {
	slices.SortFunc(rows, func(a, b T) int {
		aSort, aID := key(a)
		bSort, bID := key(b)
		order := cmp.Compare(aID, bID)
		if page.By != joinserver.ByID {
			order = cmp.Or(cmp.Compare(aSort, bSort), order)
		}
		if page.Descending {
			return -order
		}
		return order
	})
	total := int64(len(rows))
	from := min(page.Offset, total)
	to := from + min(page.Limit, total-from)
	return rows[from:to], total
}

func (t *fakeTx) Group(id int64) (joinserver.Group, error) { return find(t.groups, id) }

func (t *fakeTx) groupNameTaken(g joinserver.Group) bool {
	for _, other := range t.groups {
		if other.ID != g.ID && other.Account == g.Account && other.Name == g.Name {
			return true
		}
	}
	return false
}

func (t *fakeTx) InsertGroup(g joinserver.Group) (int64, error) {
	id, err := t.newID()
	if err != nil {
		return 0, err
	}
	g.ID, g.Version = id, id
	if t.groupNameTaken(g) {
		return 0, joinserver.ErrDuplicate
	}
	t.groups[id] = g
	return id, nil
}

func (t *fakeTx) UpdateGroup(g joinserver.Group) error {
	if t.readOnly {
		return errReadOnly
	}
	if _, err := find(t.groups, g.ID); err != nil {
		return err
	}
	if t.groupNameTaken(g) {
		return joinserver.ErrDuplicate
	}
	g.Version = t.revision
	t.groups[g.ID] = g
	return nil
}

func (t *fakeTx) Groups(f joinserver.GroupFilter) ([]joinserver.Group, int64, error) {
	var rows []joinserver.Group
	for _, g := range t.groups {
		if t.matchGroup(f, g) {
			rows = append(rows, g)
		}
	}
	page, total := cut(rows, f.Page, func(g joinserver.Group) (int64, int64) { return g.CreateMillis, g.ID })
	return page, total, nil
}

func (t *fakeTx) matchGroup(f joinserver.GroupFilter, g joinserver.Group) bool {
	eui := ""
	if g.PermissionID != 0 {
		eui = t.permissions[g.PermissionID].JoinEUI.String()
	}
	node := f.DevEUILike == ""
	for _, d := range t.devices {
		node = node || d.GroupID == g.ID && like(d.DevEUI.String(), f.DevEUILike)
	}
	return zeroOr(f.Account, g.Account) && nilOr(f.InstanceID, g.InstanceID) &&
		(f.PermissionIDs == nil || slices.Contains(f.PermissionIDs, g.PermissionID)) &&
		like(g.Name, f.NameLike) && like(eui, f.JoinEUILike) && node
}

func (t *fakeTx) NodeCounts(groups []int64) (map[int64]int64, error) {
	counts := map[int64]int64{}
	for _, d := range t.devices {
		if slices.Contains(groups, d.GroupID) {
			counts[d.GroupID]++
		}
	}
	return counts, nil
}

func (t *fakeTx) Order(id int64) (joinserver.Order, error) { return find(t.orders, id) }

func (t *fakeTx) InsertOrder(o joinserver.Order) (int64, error) {
	id, err := t.newID()
	o.ID = id
	t.orders[id] = o
	return id, err
}

func (t *fakeTx) UpdateOrder(o joinserver.Order) error {
	if t.readOnly {
		return errReadOnly
	}
	if _, err := find(t.orders, o.ID); err != nil {
		return err
	}
	t.orders[o.ID] = o
	return nil
}
