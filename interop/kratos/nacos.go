package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"

	"github.com/go-kratos/kratos/v2/log"
	"github.com/go-kratos/kratos/v2/registry"
	"github.com/nacos-group/nacos-sdk-go/v2/clients"
	"github.com/nacos-group/nacos-sdk-go/v2/clients/naming_client"
	"github.com/nacos-group/nacos-sdk-go/v2/common/constant"
	"github.com/nacos-group/nacos-sdk-go/v2/model"
	"github.com/nacos-group/nacos-sdk-go/v2/vo"
)

const patienceMs = 5_000

// nacos is a registry of Kratos on Nacos' client. Services keep their names, and have one endpoint, of HTTP.
type nacos struct {
	client naming_client.INamingClient
}

func newNacos(server, directory string) (*nacos, error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("the port of %s: %w", server, err)
	}
	settings := constant.NewClientConfig(
		constant.WithTimeoutMs(patienceMs),
		constant.WithNotLoadCacheAtStart(true),
		constant.WithCacheDir(directory+"/cache"),
		constant.WithLogDir(directory+"/log"),
	)
	client, err := clients.NewNamingClient(vo.NacosClientParam{
		ClientConfig:  settings,
		ServerConfigs: []constant.ServerConfig{*constant.NewServerConfig(host, number)},
	})
	if err != nil {
		return nil, err
	}
	return &nacos{client}, nil
}

// address is where a service listens for HTTP.
func address(service *registry.ServiceInstance) (string, uint64, error) {
	for _, endpoint := range service.Endpoints {
		parsed, err := url.Parse(endpoint)
		if err != nil {
			return "", 0, err
		}
		if parsed.Scheme != "http" {
			continue
		}
		port, err := strconv.ParseUint(parsed.Port(), 10, 16)
		return parsed.Hostname(), port, err
	}
	return "", 0, fmt.Errorf("%s has no endpoint of HTTP", service)
}

// Register is that of registry.Registrar.
func (n *nacos) Register(_ context.Context, service *registry.ServiceInstance) error {
	host, port, err := address(service)
	if err != nil {
		return err
	}
	metadata := map[string]string{"version": service.Version}
	_, err = n.client.RegisterInstance(vo.RegisterInstanceParam{
		ServiceName: service.Name, Ip: host, Port: port, Metadata: metadata,
		Weight: 1, Enable: true, Healthy: true, Ephemeral: true,
	})
	return err
}

// Deregister is that of registry.Registrar.
func (n *nacos) Deregister(_ context.Context, service *registry.ServiceInstance) error {
	host, port, err := address(service)
	if err != nil {
		return err
	}
	_, err = n.client.DeregisterInstance(vo.DeregisterInstanceParam{
		ServiceName: service.Name, Ip: host, Port: port, Ephemeral: true,
	})
	return err
}

// GetService is that of registry.Discovery.
func (n *nacos) GetService(_ context.Context, name string) ([]*registry.ServiceInstance, error) {
	found, err := n.client.SelectInstances(vo.SelectInstancesParam{ServiceName: name, HealthyOnly: true})
	return instances(name, found), err
}

// Watch is that of registry.Discovery.
func (n *nacos) Watch(ctx context.Context, name string) (registry.Watcher, error) {
	own, stop := context.WithCancel(ctx)
	w := &watcher{ctx: own, stop: stop, client: n.client, latest: make(chan []*registry.ServiceInstance, 1)}
	w.wish = &vo.SubscribeParam{ServiceName: name, SubscribeCallback: w.changed}
	if err := n.client.Subscribe(w.wish); err != nil {
		stop()
		return nil, err
	}
	return w, nil
}

type watcher struct {
	ctx    context.Context
	stop   context.CancelFunc
	client naming_client.INamingClient
	wish   *vo.SubscribeParam
	// Held by who fills latest, so that nobody else fills the place that it emptied.
	filling sync.Mutex
	// The latest list alone: who is late has no use for those before.
	latest chan []*registry.ServiceInstance
}

func (w *watcher) changed(found []model.Instance, err error) {
	if err != nil {
		log.Errorf("watching %s: %v", w.wish.ServiceName, err)
		return
	}
	w.filling.Lock()
	defer w.filling.Unlock()
	select {
	case <-w.latest:
	default:
	}
	w.latest <- instances(w.wish.ServiceName, found)
}

// Next is that of registry.Watcher.
func (w *watcher) Next() ([]*registry.ServiceInstance, error) {
	select {
	case <-w.ctx.Done():
		return nil, w.ctx.Err()
	case found := <-w.latest:
		return found, nil
	}
}

// Stop is that of registry.Watcher.
func (w *watcher) Stop() error {
	w.stop()
	return w.client.Unsubscribe(w.wish)
}

func instances(name string, found []model.Instance) []*registry.ServiceInstance {
	services := make([]*registry.ServiceInstance, 0, len(found))
	for _, one := range found {
		if !one.Healthy || !one.Enable || one.Weight <= 0 {
			continue
		}
		endpoint := "http://" + net.JoinHostPort(one.Ip, strconv.FormatUint(one.Port, 10))
		services = append(services, &registry.ServiceInstance{
			ID: one.InstanceId, Name: name, Version: one.Metadata["version"],
			Metadata: one.Metadata, Endpoints: []string{endpoint},
		})
	}
	return services
}
