// Reading for a component: what it shows, whether that is still being read, and
// what went wrong. The last data stay until others have come.
import { useEffect, useRef, useState } from "preact/hooks";
import { connection, paused, refreshes } from "./live.ts";
import { isAbort, RpcError } from "./rpc.ts";

export interface Loaded<T> {
  /** The last answer, also while the next is on its way. */
  data: T | undefined;
  /** The data are of another key: what is asked now has not come yet. */
  stale: boolean;
  error: RpcError | undefined;
  loading: boolean;
  /** Reads once more. */
  reload: () => void;
}

/**
 * Reads when the key changes, when the person asks for it ("r") and, with
 * every, so many milliseconds after the last answer while the tab is seen and
 * live data are not paused. An empty key reads nothing.
 */
export function useLoad<T>(key: string, load: (signal: AbortSignal) => Promise<T>, every?: number): Loaded<T> {
  const [answer, setAnswer] = useState<{ key: string; data: T } | undefined>(undefined);
  const [failure, setFailure] = useState<{ key: string; error: RpcError } | undefined>(undefined);
  const [asked, setAsked] = useState(0);
  const [loading, setLoading] = useState(true);
  const latest = useRef(load);
  latest.current = load;
  const round = refreshes.value;
  useEffect(() => {
    if (key === "") {
      setLoading(false);
      return undefined;
    }
    const stop = new AbortController();
    let timer = 0;
    const again = (): void => {
      if (stop.signal.aborted || every === undefined) return;
      timer = window.setTimeout(() => {
        if (document.visibilityState !== "visible" || paused.peek() || connection.peek() === "reconnecting") again();
        else void read();
      }, every);
    };
    const read = async (): Promise<void> => {
      try {
        const data = await latest.current(stop.signal);
        if (stop.signal.aborted) return;
        setAnswer({ key, data });
        setFailure(undefined);
      } catch (e) {
        if (stop.signal.aborted || isAbort(e)) return;
        setFailure({ key, error: e instanceof RpcError ? e : new RpcError("unknown", String(e)) });
      }
      setLoading(false);
      again();
    };
    setLoading(true);
    void read();
    return () => {
      stop.abort();
      window.clearTimeout(timer);
    };
  }, [key, every, asked, round]);
  return {
    data: answer?.data,
    stale: answer !== undefined && answer.key !== key,
    error: failure?.key === key ? failure.error : undefined,
    loading,
    reload: () => setAsked((n) => n + 1),
  };
}
