package store

import (
	"context"
	"fmt"
	"sync"

	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/dispatch"
)

// routeName is a pair of the dictionary.
type routeName struct{ queue, kind string }

// routeCache holds the dictionary of (queue, kind), which only grows.
type routeCache struct {
	mu     sync.RWMutex
	ids    map[routeName]int32
	routes map[int32]routeName
}

func (c *routeCache) init() {
	c.ids = map[routeName]int32{}
	c.routes = map[int32]routeName{}
}

func (c *routeCache) id(name routeName) (int32, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	id, ok := c.ids[name]
	return id, ok
}

func (c *routeCache) name(id int32) (routeName, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	name, ok := c.routes[id]
	return name, ok
}

func (c *routeCache) add(id int32, name routeName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids[name] = id
	c.routes[id] = name
}

// Routes reads the whole dictionary.
func (s *Store) Routes(ctx context.Context) ([]dispatch.Route, error) {
	rows, err := s.fdb.ListRoutes(ctx)
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	routes := make([]dispatch.Route, len(rows))
	for i, r := range rows {
		routes[i] = dispatch.Route{ID: r.ID, Queue: r.Queue, Kind: r.Kind}
		s.routes.add(r.ID, routeName{r.Queue, r.Kind})
	}
	return routes, nil
}

// route gives the number of one pair, adding it to the dictionary if need be.
func (s *Store) route(ctx context.Context, queue, kind string) (int32, error) {
	name := routeName{queue, kind}
	if id, ok := s.routes.id(name); ok {
		return id, nil
	}
	if err := s.addRoutes(ctx, []routeName{name}); err != nil {
		return 0, err
	}
	id, _ := s.routes.id(name)
	return id, nil
}

// addRoutes makes sure that the cache knows all names. New ones are inserted
// in statements of their own, committed at once: no submission ever waits for
// another one's uncommitted route.
func (s *Store) addRoutes(ctx context.Context, names []routeName) error {
	queues, kinds := s.missingRoutes(names)
	if len(queues) == 0 {
		return nil
	}
	if err := s.findRoutes(ctx, queues, kinds); err != nil {
		return err
	}
	queues, kinds = s.missingRoutes(names)
	if len(queues) == 0 {
		return nil
	}
	if err := s.db.InsertRoutes(ctx, db.InsertRoutesParams{Queues: queues, Kinds: kinds}); err != nil {
		return fmt.Errorf("add routes: %w", err)
	}
	return s.findRoutes(ctx, queues, kinds)
}

func (s *Store) missingRoutes(names []routeName) (queues, kinds []string) {
	seen := map[routeName]bool{}
	for _, n := range names {
		if _, ok := s.routes.id(n); ok || seen[n] {
			continue
		}
		seen[n] = true
		queues, kinds = append(queues, n.queue), append(kinds, n.kind)
	}
	return queues, kinds
}

func (s *Store) findRoutes(ctx context.Context, queues, kinds []string) error {
	rows, err := s.db.FindRoutes(ctx, db.FindRoutesParams{Queues: queues, Kinds: kinds})
	if err != nil {
		return fmt.Errorf("find routes: %w", err)
	}
	for _, r := range rows {
		s.routes.add(r.ID, routeName{r.Queue, r.Kind})
	}
	return nil
}

// routeNames gives the pair of a number, reading the dictionary again when
// another node has added it.
func (s *Store) routeNames(ctx context.Context, id int32) (routeName, error) {
	if name, ok := s.routes.name(id); ok {
		return name, nil
	}
	if _, err := s.Routes(ctx); err != nil {
		return routeName{}, err
	}
	name, ok := s.routes.name(id)
	if !ok {
		return routeName{}, fmt.Errorf("route %d is not in the dictionary", id)
	}
	return name, nil
}
