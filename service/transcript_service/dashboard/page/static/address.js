// What is looked at stands in the address, so that a link shows another person the same.

/** The values of the address by name. */
export const read = () => Object.fromEntries(new URLSearchParams(location.search));

/** Puts values into the address; the empty ones stay out. */
export function write(values) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value));
  history.pushState(null, "", `?${query}`);
}

const RASTER_MS = 15_000; // the API's windows end on it

/** The `hours` and `end` of what lies between two moments in milliseconds. */
export function stretch(start, end) {
  const until = Math.ceil(end / RASTER_MS) * RASTER_MS;
  const hours = Math.max(4 * RASTER_MS, until - start) / 3_600_000;
  return { hours: String(Number(Math.min(hours, 168).toFixed(4))), end: new Date(until).toISOString().replace(".000Z", "Z") };
}

/** Selects `value`, of which an option is made where it has none, such as after zooming. */
export function select(field, value, text) {
  field.querySelector("option.made")?.remove();
  if (![...field.options].some((option) => option.value === value)) {
    const option = new Option(text, value);
    option.className = "made";
    field.add(option);
  }
  field.value = value;
}

export function hoursText(hours) {
  const minutes = Number(hours) * 60;
  if (!(minutes > 0)) return String(hours);
  return minutes < 90 ? `${Number(minutes.toFixed(1))} min` : minutes < 2880 ? `${Number((minutes / 60).toFixed(1))} h` : `${Number((minutes / 1440).toFixed(1))} d`;
}

const two = (number) => String(number).padStart(2, "0");

/** A time for a `datetime-local` field, which knows no zone. */
export function localTime(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return "";
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}
