import type { UpgradeRecord } from "../events.js";
import { BOUNDS } from "./totals.js";
import { instruments, labelsOf, type Instrument, type Measured } from "./instruments.js";

/** The methods of an OpenTelemetry meter that are used. */
export interface MeterLike {
  createObservableCounter(name: string, options: object): ObservableLike;
  createObservableGauge(name: string, options: object): ObservableLike;
  createHistogram(name: string, options: object): { record(value: number, attributes: Attributes): void };
}

export interface ObservableLike {
  addCallback(callback: Callback): void;
  removeCallback(callback: Callback): void;
}

type Attributes = Record<string, string>;
type Callback = (result: { observe(value: number, attributes?: Attributes): void }) => void;

/**
 * Adds the metrics to a meter of OpenTelemetry, which reads counters and gauges when it exports. The durations of an
 * upgrade are recorded in the process that serves after it.
 *
 * @param upg the `Upgrader`
 * @returns a function that removes them
 */
export function openTelemetry(upg: Measured, meter: MeterLike): () => void {
  const undo = instruments(upg).map((instrument) =>
    instrument.type === "histogram" ? record(upg, meter, instrument) : observe(upg, meter, instrument),
  );
  return () => {
    for (const one of undo) one();
  };
}

function observe(
  upg: Measured,
  meter: MeterLike,
  instrument: Instrument & { type: "counter" | "gauge" },
): () => void {
  const { name, help, type, label, unit } = instrument;
  const options = { description: help, ...(unit === undefined ? {} : { unit: "s" }) };
  const observable =
    type === "counter"
      ? meter.createObservableCounter(name, options)
      : meter.createObservableGauge(name, options);
  const callback: Callback = (result) => {
    for (const [key, value] of Object.entries(instrument.read())) {
      result.observe(value, { ...labelsOf(upg), ...(label === undefined ? {} : { [label]: key }) });
    }
  };
  observable.addCallback(callback);
  return () => observable.removeCallback(callback);
}

function record(upg: Measured, meter: MeterLike, { name, help, label }: Instrument): () => void {
  const advice = { explicitBucketBoundaries: [...BOUNDS] };
  const histogram = meter.createHistogram(name, { description: help, unit: "s", advice });
  const onRecord = ({ timings }: UpgradeRecord): void => {
    for (const [phase, ms] of Object.entries(timings ?? {}))
      histogram.record(ms / 1_000, { ...labelsOf(upg), [label!]: phase });
  };
  upg.on("recorded", onRecord);
  return () => void upg.off("recorded", onRecord);
}
