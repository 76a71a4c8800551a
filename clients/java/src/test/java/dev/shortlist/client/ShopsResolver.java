package dev.shortlist.client;

import io.grpc.EquivalentAddressGroup;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.StatusOr;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.URI;
import java.util.Collection;
import java.util.List;
import java.util.Set;

/** Resolves every name of the scheme {@code shops} to the same addresses, as a headless service would. */
final class ShopsResolver extends NameResolverProvider {
  private final List<String> targets;

  ShopsResolver(List<String> targets) {
    this.targets = targets;
  }

  @Override
  public NameResolver newNameResolver(URI target, NameResolver.Args args) {
    return new NameResolver() {
      @Override
      public String getServiceAuthority() {
        return "shops";
      }

      @Override
      public void start(Listener2 listener) {
        List<EquivalentAddressGroup> addresses =
            targets.stream().map(ShopsResolver::address).map(EquivalentAddressGroup::new).toList();
        listener.onResult(
            ResolutionResult.newBuilder()
                .setAddressesOrError(StatusOr.fromValue(addresses))
                .build());
      }

      @Override
      public void shutdown() {}
    };
  }

  private static SocketAddress address(String target) {
    return new InetSocketAddress("127.0.0.1", Integer.parseInt(target.replaceFirst(".*:", "")));
  }

  @Override
  protected boolean isAvailable() {
    return true;
  }

  @Override
  protected int priority() {
    return 5;
  }

  @Override
  public String getDefaultScheme() {
    return "shops";
  }

  @Override
  public Collection<Class<? extends SocketAddress>> getProducedSocketAddressTypes() {
    return Set.of(InetSocketAddress.class);
  }
}
