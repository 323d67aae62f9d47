// A service of Kratos that registers itself at Nacos, and calls another one that it finds there.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/errors"
	"github.com/go-kratos/kratos/v2/log"
	kratoshttp "github.com/go-kratos/kratos/v2/transport/http"
)

const patience = 5 * time.Second

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func setting(name string) (string, error) {
	value := os.Getenv(name)
	if value == "" {
		return "", fmt.Errorf("%s is not set: see interop/README.md", name)
	}
	return value, nil
}

func run() error {
	values := map[string]string{}
	for _, name := range []string{"REGISTRY", "NAME", "PORT", "CALLS", "HOME"} {
		value, err := setting(name)
		if err != nil {
			return err
		}
		values[name] = value
	}
	nacos, err := newNacos(values["REGISTRY"], values["HOME"]+"/nacos")
	if err != nil {
		return fmt.Errorf("Nacos' client: %w", err)
	}
	defer nacos.client.CloseClient()

	client, err := kratoshttp.NewClient(context.Background(),
		kratoshttp.WithEndpoint("discovery:///"+values["CALLS"]),
		kratoshttp.WithDiscovery(nacos),
		kratoshttp.WithTimeout(patience),
	)
	if err != nil {
		return fmt.Errorf("watching %s: %w", values["CALLS"], err)
	}
	defer client.Close()

	server := kratoshttp.NewServer(kratoshttp.Address("127.0.0.1:" + values["PORT"]))
	server.HandleFunc("/hello", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(answer, "hello from ", values["NAME"])
	})
	server.HandleFunc("/call", call(client))
	app := kratos.New(
		kratos.ID(values["NAME"]+"-"+values["PORT"]),
		kratos.Name(values["NAME"]),
		kratos.Version("v1"),
		kratos.Server(server),
		kratos.Registrar(nacos),
	)
	return app.Run()
}

// call passes a GET of the path in the query on to the service that the client calls, and tells whom it called.
func call(client *kratoshttp.Client) http.HandlerFunc {
	return func(answer http.ResponseWriter, request *http.Request) {
		// The client puts the address of whom it chose in the place of the host.
		passed, err := http.NewRequestWithContext(request.Context(), http.MethodGet, "http://chosen"+request.URL.RawQuery, nil)
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		response, err := client.Do(passed)
		if err != nil {
			http.Error(answer, err.Error(), errors.Code(err))
			return
		}
		defer response.Body.Close()
		answer.Header().Set("x-called", passed.URL.Host)
		if _, err := io.Copy(answer, response.Body); err != nil {
			log.Error("passing the answer on: ", err)
		}
	}
}
