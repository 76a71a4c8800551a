package dev.shortlist.client;

import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * The answers of a call of many, as they come. The call begins at once; it ends with its last answer, its error, or {@link
 * #close}, which ends it on the server too:
 *
 * <pre>{@code
 * try (Answers<StreamRecommendResponse> lists = client.streamRecommend(request)) {
 *   for (StreamRecommendResponse list : lists) {
 *     show(list);
 *   }
 * }
 * }</pre>
 *
 * They can be gone through once, by one thread. {@code hasNext} waits, and throws {@link ShortlistException}.
 */
public final class Answers<A> implements Iterable<A>, AutoCloseable {
  private final Iterator<A> source;
  private final Runnable end;
  private boolean taken;

  Answers(Iterator<A> source, Runnable end) {
    this.source = source;
    this.end = end;
  }

  @Override
  public Iterator<A> iterator() {
    if (taken) {
      throw new IllegalStateException("the answers of a call come once");
    }
    taken = true;
    return new Iterator<>() {
      @Override
      public boolean hasNext() {
        return source.hasNext();
      }

      @Override
      public A next() {
        if (!hasNext()) {
          throw new NoSuchElementException();
        }
        return source.next();
      }
    };
  }

  /** Returns the answers as a stream, which closes the call when it is closed. */
  public Stream<A> stream() {
    int traits = Spliterator.ORDERED | Spliterator.NONNULL;
    return StreamSupport.stream(Spliterators.spliteratorUnknownSize(iterator(), traits), false)
        .onClose(this::close);
  }

  /** Ends the call, if it has not ended. */
  @Override
  public void close() {
    end.run();
  }
}
